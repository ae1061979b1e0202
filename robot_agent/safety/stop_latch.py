"""The latch: a file that keeps a stopped robot stopped until a person resumes it."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
    """UTC, by the robot's clock; 0 for an unknown time."""

    @classmethod
    def now(cls, why: str) -> Stop:
        """Return a stop that happens now."""
        return cls(why=why, at_ns=time.time_ns())

    def __str__(self) -> str:
        if self.at_ns == 0:
            return f"{self.why}, at an unknown time"
        at = datetime.fromtimestamp(self.at_ns / 1e9, UTC)
        return f"{self.why}, at {at:%Y-%m-%d %H:%M:%S} UTC"


class StopLatch:
    """The latch of one robot. Any process may set it; a person takes it away."""

    def __init__(self, state_folder: Path) -> None:
        self._file = state_folder / _LATCH_FILE
        self._stop_file = state_folder / STOP_FILE

    def read(self) -> Stop | None:
        """Return who stopped the robot, and when; None when nobody did.

        What cannot be read or looked for is a stop all the same.
        """
        return next(iter(self.stops()), None)

    def stops(self) -> list[Stop]:
        """Return all that keeps the robot stopped: what the latch says, and the file STOP."""
        found = (self._kept(), self._ordered())
        return [stop for stop in found if stop is not None]

    @property
    def is_kept(self) -> bool:
        """Whether the latch is on disk, and can be read."""
        try:
            self._decoded()
        except (OSError, msgspec.DecodeError):
            return False
        return True

    def set(self, stop: Stop) -> None:
        """Keep the robot stopped from now on; it is on disk on return.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        write_over(self._file, msgspec.json.encode(stop) + b"\n", mode=PUBLIC_MODE)

    def release(self, shown: Sequence[Stop]) -> None:
        """Let the robot start again.

        Args:
            shown: every stop that the person who resumes it was told of; see ``stops``.

        Raises:
            SafetyFault: it was stopped again since.
            ConfigurationError: a file cannot be removed.
        """
        for stop in self.stops():
            if stop not in shown:
                raise SafetyFault(
                    f"the robot was stopped again meanwhile {stop}; look at it, then run "
                    "robot-agent resume once more"
                )
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
                "--config robot.toml, with its own configuration file"
            )

    def _kept(self) -> Stop | None:
        try:
            return self._decoded()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, msgspec.DecodeError) as error:
            return Stop(
                why=f"{self._file} says why, but cannot be read ({error})",
                at_ns=_made_ns(self._file),
            )

    def _decoded(self) -> Stop:
        return msgspec.json.decode(self._file.read_bytes(), type=Stop)

    def _ordered(self) -> Stop | None:
        try:
            return Stop(why=BY_FILE, at_ns=self._stop_file.stat().st_mtime_ns)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            return Stop(why=f"because nobody can look for {self._stop_file} ({error})", at_ns=0)


def _made_ns(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
