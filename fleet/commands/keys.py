"""Changing the learner's key, in two steps with the robots' confirmation in between."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tyro.extras import SubcommandApp

from fleet.commands.output import print_json

if TYPE_CHECKING:
    from fleet.key_rotation import KeyRotation

rotate_key = SubcommandApp()


@rotate_key.command
def begin(run: Path = Path("runs/demo")) -> int:
    """Make the learner's next key; a learner that runs tells its robots of it.

    Robots go on with the key in use, store the next one, and confirm it. Robots that are enrolled
    meanwhile get both.

    Args:
        run: folder with learner.toml and keys.
    """
    public = _rotation(run).begin()
    print(f"next key {public[:8]}…; 'fleet rotate-key status' says which robots have stored it")
    return 0


@rotate_key.command
def status(run: Path = Path("runs/demo"), json: bool = False) -> int:
    """Name the robots that have stored the next key, and those that have not.

    Exit status 1 while some have not.

    Args:
        run: folder with learner.toml and keys.
        json: machine-readable.
    """
    found = _rotation(run).status()
    if json:
        print_json(found)
    else:
        print(f"next key   {found.next_public_key[:8]}…")
        print(f"ready      {', '.join(found.confirmed) or 'nobody'}")
        print(f"not ready  {', '.join(found.missing) or 'nobody: finish when you like'}")
    return 1 if found.missing else 0


@rotate_key.command
def finish(run: Path = Path("runs/demo"), force: bool = False) -> int:
    """Put the next key in use. A learner that runs takes it up at once; robots reconnect.

    Refused while an enrolled robot has not stored the next key: it would be locked out.

    Args:
        run: folder with learner.toml and keys.
        force: lock such robots out; each then needs the new server.public of the keys' folder.
    """
    locked_out = _rotation(run).finish(force=force)
    print("the next key is in use")
    if locked_out:
        print(f"copy the new server.public to: {', '.join(locked_out)}")
    return 0


@rotate_key.command
def cancel(run: Path = Path("runs/demo")) -> int:
    """Give the next key up; the one in use stays.

    Args:
        run: folder with learner.toml and keys.
    """
    _rotation(run).cancel()
    print("the rotation is cancelled; the key in use stays")
    return 0


def _rotation(run: Path) -> KeyRotation:
    from fleet.key_rotation import KeyRotation
    from fleet.operator import keys_of, registry_of
    from fleet.run_folder import RunFolder

    folder = RunFolder.existing(run)
    return KeyRotation(keys_of(folder), registry_of(folder))
