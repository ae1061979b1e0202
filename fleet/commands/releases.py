"""``fleet release``: what was released, and what the fleet or one robot shall use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from tyro.conf import Positional
from tyro.extras import SubcommandApp

from fleet.commands.output import console, print_json, say

if TYPE_CHECKING:
    from fleet.releases import ReleaseClient
    from protocol.messages import ReleaseList

releases = SubcommandApp()

_LAST_VERSION = 2**53

# Imports of what is slow to load stand in the commands: `fleet --help` should not wait for them.


@releases.command(name="list")
def list_releases(run: Path = Path("runs/demo"), json: bool = False) -> int:
    """List the releases that the learner keeps, what is pinned, and what was held back.

    Weights are held back when they do worse than the newest release on held-out attempts. A
    release's own loss is on those that were held out when it was made: of two releases the one with
    the lower loss need not be the better one.

    Args:
        run: folder with learner.toml and keys.
        json: machine-readable.
    """
    from fleet.releases import name_of, release_table

    with _connect(run) as client:
        listing = client.fetch()
    if json:
        print_json(msgspec.structs.asdict(listing))
        return 0
    screen = console()
    screen.print(release_table(listing, width=screen.width))
    for robot, version in listing.pinned.items():
        say(f"{name_of(robot)} is pinned to release {version}")
    for reason in listing.withheld:
        say(f"held back: {reason}")
    _say_warnings(listing)
    return 0


@releases.command(name="pin")
def pin_release(
    version: Positional[int], run: Path = Path("runs/demo"), robot: str | None = None
) -> int:
    """Keep the whole fleet, or one robot, on a release, older or newer, until it is unpinned.

    A robot's own pin counts more than the fleet's. Pins outlive the learner, and the release
    stays on its disk for as long.

    Args:
        version: the release, as 'fleet release list' shows it.
        run: folder with learner.toml and keys.
        robot: only this robot.
    """
    from protocol.errors import ConfigurationError

    if not 1 <= version <= _LAST_VERSION:
        raise ConfigurationError(f"release {version}: releases count from 1 to {_LAST_VERSION}")
    with _connect(run) as client:
        _pin(client, version, robot or "")
    return 0


@releases.command(name="unpin")
def unpin_release(run: Path = Path("runs/demo"), robot: str | None = None) -> int:
    """Let the whole fleet, or one robot, use the newest release again.

    Robots that have a pin of their own keep it when the fleet's is taken away.

    Args:
        run: folder with learner.toml and keys.
        robot: only this robot; what the whole fleet is pinned to binds it again.
    """
    from fleet.releases import assigned_version, name_of

    robot_id = robot or ""
    with _connect(run) as client:
        was_pinned = robot_id in client.fetch().pinned
        listing = client.pin(0, robot_id)
    state = "no longer pinned" if was_pinned else "not pinned"
    version = assigned_version(listing, robot_id)
    say(f"{name_of(robot_id)} is {state}: release {version or 'none'} is to be used")
    _say_rest(listing, robot_id)
    return 0


@releases.command(name="rollback")
def roll_back(run: Path = Path("runs/demo"), robot: str | None = None) -> int:
    """Pin the whole fleet, or one robot, to the release before the one it is to use now.

    Args:
        run: folder with learner.toml and keys.
        robot: only this robot.
    """
    from fleet.releases import version_before

    robot_id = robot or ""
    with _connect(run) as client:
        _pin(client, version_before(client.fetch(), robot_id), robot_id)
    return 0


def _connect(run: Path) -> ReleaseClient:
    from fleet.operator import release_connection
    from fleet.releases import ReleaseClient
    from fleet.run_folder import RunFolder

    return ReleaseClient(*release_connection(RunFolder.existing(run)))


def _pin(client: ReleaseClient, version: int, robot_id: str) -> None:
    from fleet.releases import name_of

    listing = client.pin(version, robot_id)
    say(f"{name_of(robot_id)} is pinned to release {version}")
    _say_rest(listing, robot_id)


def _say_rest(listing: ReleaseList, changed: str) -> None:
    """Name the other pins where they limit what was changed, and what keeps a pin from working."""
    from fleet.releases import WHOLE_FLEET, name_of

    for robot, pinned in listing.pinned.items():
        if changed == WHOLE_FLEET != robot:
            say(f"{name_of(robot)} stays pinned to release {pinned}")
    _say_warnings(listing)


def _say_warnings(listing: ReleaseList) -> None:
    for warning in listing.warnings:
        say(f"warning: {warning}")
