"""The display of a fleet in a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from fleet.monitor import Monitor, Progress


def test_the_conclusion_stands_below_the_display():
    screen = io.StringIO()
    with Monitor(Console(file=screen, force_terminal=True, width=100)) as monitor:
        monitor.show(Progress(phase="writing the report", left_s=None), None)
        monitor.say_last("87 % of unseen objects")
    shown = screen.getvalue()
    assert shown.rindex("writing the report") < shown.index("87 % of unseen objects")
