"""Is the clock right: set by NTP, and not behind what this robot has seen already.

The wire tells no time: attempts are ordered by their sequences. A wrong clock spoils the times in
records and logs, and what is compared with other robots.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from pathlib import Path

from robot_agent.checks.last_release import last_release
from robot_agent.config import AgentConfig
from robot_agent.robots.check_result import CheckResult, ok, warn

LARGEST_ERROR_S = 1.0
"""What the kernel may estimate its clock to be off."""
LARGEST_LAG_S = 5.0
"""How far it may be behind a release's or a file's time."""
_SET_IT = "let NTP set it: timedatectl set-ntp true; a Raspberry Pi has no clock while it is off"


class _Timex(ctypes.Structure):
    """``struct timex`` of adjtimex(2), as far as it is read here."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def check_clock(config: AgentConfig, now_ns: int | None = None) -> Iterator[CheckResult]:
    """Ask the kernel how sure it is, and compare with what is on the robot's disk."""
    yield _synchronised()
    now_ns = time.time_ns() if now_ns is None else now_ns
    yield _not_behind(_newest(config), now_ns)


def _synchronised() -> CheckResult:
    subject = "clock"
    error_s = _kernel_error_s()
    if error_s is None:
        return warn(subject, "not set by NTP: nobody knows how far it is off", _SET_IT)
    if error_s > LARGEST_ERROR_S:
        return warn(
            subject, f"may be off by {error_s:.1f} s, more than {LARGEST_ERROR_S:.0f} s", _SET_IT
        )
    return ok(subject, f"set by NTP, off by {error_s * 1e3:.0f} ms at most")


def _not_behind(newest: tuple[int, str], now_ns: int) -> CheckResult:
    subject = "clock of the past"
    newest_ns, what = newest
    lag_s = (newest_ns - now_ns) * 1e-9
    if lag_s > LARGEST_LAG_S:
        return warn(subject, f"it is {lag_s:.0f} s earlier than {what}", _SET_IT)
    return ok(subject, f"later than {what}")


def _newest(config: AgentConfig) -> tuple[int, str]:
    """Return the latest time that this robot has seen, UTC nanoseconds, and where."""
    seen = [(Path(__file__).stat().st_mtime_ns, "this software's installation")]
    release = last_release(config)
    if release is not None:
        manifest = release.manifest
        seen.append((manifest.created_at_ns, f"release {manifest.version}, by the learner's clock"))
    return max(seen)


def _kernel_error_s() -> float | None:
    """Return by how much the kernel thinks its clock may be off; None when nobody sets it."""
    unsynchronised, time_error = 0x40, 5
    timex = _Timex()
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    if state in (-1, time_error) or timex.status & unsynchronised:
        return None
    return float(timex.maxerror * 1e-6)
