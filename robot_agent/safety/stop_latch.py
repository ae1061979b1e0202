"""The latch: a file that keeps a stopped robot stopped until a person resumes it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from protocol.errors import ConfigurationError, SafetyFault
from protocol.key_files import PUBLIC_MODE, write_over

STOP_FILE = "STOP"
"""In the state folder; whoever makes it stops the robot."""
BY_FILE = f"by the file {STOP_FILE} in its state folder"
_LATCH_FILE = "stopped.json"


class Stop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stop after which only a person resumes."""

    why: str
    """Who stopped the robot, or what was wrong, in words."""
    at_ns: int
    """UTC, by the robot's clock."""

    @classmethod
    def now(cls, why: str) -> Stop:
        """Return a stop that happens now."""
        return cls(why=why, at_ns=time.time_ns())

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.at_ns / 1e9, UTC)
        return f"{self.why}, at {at:%Y-%m-%d %H:%M:%S} UTC"


class StopLatch:
    """The latch of one robot. Any process may set it; a person takes it away."""

    def __init__(self, state_folder: Path) -> None:
        self._file = state_folder / _LATCH_FILE
        self._stop_file = state_folder / STOP_FILE

    def read(self) -> Stop | None:
        """Return who stopped the robot, and when; None when nobody did.

        A latch that cannot be read is one all the same.
        """
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Stop)
        except (FileNotFoundError, NotADirectoryError):
            return self._ordered_by_file()
        except (OSError, msgspec.DecodeError) as error:
            return Stop.now(f"{self._file} says why, but cannot be read ({error})")

    def set(self, stop: Stop) -> None:
        """Keep the robot stopped from now on; it is on disk on return.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        write_over(self._file, msgspec.json.encode(stop) + b"\n", mode=PUBLIC_MODE)

    def release(self) -> None:
        """Let the robot start again.

        Raises:
            ConfigurationError: a file cannot be removed.
        """
        for file in (self._file, self._stop_file):
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise ConfigurationError(f"{file} cannot be removed: {error.strerror}") from error

    def check(self, name: str) -> None:
        """Refuse to go on with a robot that is stopped.

        Raises:
            SafetyFault: it is; the message says why and since when, and what to do.
        """
        stop = self.read()
        if stop is not None:
            raise SafetyFault(
                f"{name} was stopped {stop}; look at the robot, then run: robot-agent resume "
                "--config with its configuration file"
            )

    @property
    def is_ordered_by_file(self) -> bool:
        """Whether somebody made the file STOP."""
        return self._stop_file.exists()

    def _ordered_by_file(self) -> Stop | None:
        try:
            made_ns = self._stop_file.stat().st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stop(why=BY_FILE, at_ns=made_ns)
