"""A terminal that goes on showing the fleet, also while the learner is away."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fleet.health import concerns_of
from fleet.overview import Observer
from fleet.top import screen_of
from protocol.errors import TransientError


def watch(observer: Observer, console: Console, every_s: float) -> None:
    """Show the fleet until the user ends it (KeyboardInterrupt is passed on).

    A learner that does not answer is said above what it told last.

    Args:
        observer: entered by the caller.
        console: a terminal.
        every_s: seconds between two looks.

    Raises:
        AuthenticationError: the operator's key was refused.
    """
    latest = Group(Text("waiting for the learner ..."))
    with Live(latest, console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                overview = observer.look()
            except TransientError as error:
                live.update(Group(Text(str(error), style="bold red"), latest), refresh=True)
            else:
                latest = screen_of(overview, concerns_of(overview), console)
                live.update(latest, refresh=True)
            time.sleep(every_s)
