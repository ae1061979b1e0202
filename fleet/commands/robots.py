"""Who belongs to the fleet, and how they are."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from fleet.commands.output import console, print_json, say

# Imports of what is slow to load stand in the commands: `fleet --help` should not wait for MuJoCo.


def enrol(
    robot: Positional[str],
    run: Path = Path("runs/demo"),
    bundle: Path | None = None,
    host: str | None = None,
) -> int:
    """Let a robot in: make its keys and a bundle to copy to it.

    Makes the learner's own keys and the operator's first, where there are none yet.
    The bundle holds the robot's secret key, the learner's public key, the key that releases are
    verified with, and the endpoints. A learner that runs notices at once.

    Args:
        robot: the robot's name.
        run: folder with learner.toml and keys.
        bundle: where the bundle goes; ROBOT-bundle by default.
        host: name or address under which the robot reaches the learner; by default the one
            that learner.toml binds to.
    """
    from fleet.enrolment import enrol_robot, ensure_learner_keys
    from fleet.operator import learner_address, registry_of
    from fleet.run_folder import RunFolder

    folder = RunFolder.existing(run)
    place = bundle or Path(f"{robot}-bundle")
    registry, address = registry_of(folder), learner_address(folder, host)
    ensure_learner_keys(address.keys, registry)
    enrol_robot(registry, robot, place, address)
    print(f"{robot} is enrolled; copy {place} to it and keep robot.secret to its owner")
    return 0


def revoke(robot: Positional[str], run: Path = Path("runs/demo")) -> int:
    """Shut a robot out, also on a connection that is open now.

    Args:
        robot: the robot's name.
        run: folder with learner.toml and keys.
    """
    from fleet.enrolment import revoke_robot
    from fleet.operator import registry_of
    from fleet.run_folder import RunFolder

    revoke_robot(registry_of(RunFolder.existing(run)), robot)
    print(f"{robot} is shut out; enrol it again to let it back in")
    return 0


def status(run: Path = Path("runs/demo"), json: bool = False) -> int:
    """Show the robots as the learner knows them: last seen, release, success, what is missing.

    Of the release in use it says whether it is the current one, behind it, or pinned. Below the
    table stands everything that somebody should look at.

    Args:
        run: folder with learner.toml and keys.
        json: machine-readable.
    """
    from fleet.monitor import robot_table, status_warnings
    from fleet.operator import operator_connection, registry_of, release_connection
    from fleet.releases import ReleaseClient
    from fleet.run_folder import RunFolder
    from fleet.status import StatusClient, in_full
    from fleet.words import duration

    folder = RunFolder.existing(run)
    with StatusClient(*operator_connection(folder)) as client:
        reply = client.fetch()
    with ReleaseClient(*release_connection(folder)) as release_client:
        listing = release_client.fetch_if_there()
    members = {member.name for member in registry_of(folder).members()}
    if json:
        print_json(in_full(reply, listing, members))
        return 0
    connected = sum(robot.connected for robot in reply.robots)
    newest = listing.current if listing else reply.release_version
    say(
        f"release {newest or 'none yet'}, {connected} of {len(reply.robots)} robots connected, "
        f"{reply.episodes_stored} episodes stored, "
        f"learner up {duration(reply.uptime_s)}"
    )
    screen = console()
    screen.print(robot_table(reply.robots, listing, members, width=screen.width))
    warnings = status_warnings(reply)
    if listing is None:
        warnings.append("the release server does not answer: who is behind or pinned is not known")
    else:
        warnings += listing.warnings
    for warning in warnings:
        say(f"warning: {warning}")
    return 0
