"""How the fleet is: once, and live."""

from __future__ import annotations

from pathlib import Path

from fleet.commands.output import EXIT_NOT_WELL, console, print_json, say

# Imports of what is slow to load stand in the commands: `fleet --help` should not wait for MuJoCo.


def status(run: Path = Path("runs/demo"), json: bool = False) -> int:
    """Show the robots as the learner knows them: last seen, release, success, what is missing.

    Of the release in use it says whether it is the current one, behind it, or pinned. Below the
    table stands everything that somebody should look at, and what to do about it. The exit status
    is 0 when there is nothing, 3 when there is, 1 when the learner does not answer. A note does not
    count for it: episodes that have been missing for more than a day.

    Args:
        run: folder with learner.toml and keys.
        json: machine-readable.
    """
    from fleet.health import concerns_of
    from fleet.monitor import robot_table
    from fleet.overview import Observer
    from fleet.run_folder import RunFolder
    from fleet.top import headline

    with Observer(RunFolder.existing(run)) as observer:
        overview = observer.look()
    concerns = concerns_of(overview)
    if json:
        print_json(overview.for_scripts() | {"concerns": concerns})
    else:
        screen = console()
        screen.print(headline(overview, concerns))
        robots, listing, members = overview.status.robots, overview.listing, overview.members
        screen.print(robot_table(robots, listing, members, width=screen.width))
        for concern in concerns:
            say(f"{concern.severity}: {concern}")
    return 0 if all(concern.is_note for concern in concerns) else EXIT_NOT_WELL


def top(run: Path = Path("runs/demo"), every_s: float = 2.0) -> int:
    """Show the fleet live: how it is, what somebody should look at, the worst robots first.

    Ctrl-C ends it. It needs a terminal; scripts take 'fleet status --json'.

    Args:
        run: folder with learner.toml and keys.
        every_s: seconds between two looks.
    """
    from fleet.live_view import watch
    from fleet.overview import Observer
    from fleet.run_folder import RunFolder
    from protocol.errors import ConfigurationError

    if not 0.1 <= every_s <= 3600:
        raise ConfigurationError(f"--every-s {every_s:g}: between 0.1 and 3600 seconds")
    screen = console()
    if not screen.is_terminal:
        raise ConfigurationError("fleet top needs a terminal; scripts take 'fleet status --json'")
    with Observer(RunFolder.existing(run)) as observer:
        watch(observer, screen, every_s)
    return 0
