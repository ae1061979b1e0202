"""Who belongs to the fleet."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

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
    from protocol.errors import ConfigurationError

    folder = RunFolder.existing(run)
    place = bundle or Path(f"{robot}-bundle")
    if place.exists() and not place.is_dir():
        raise ConfigurationError(f"bundle {place}: it is a file, not a folder; give --bundle")
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
