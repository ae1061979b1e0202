"""How warm is the computer, and does its supply hold: a Raspberry Pi tells both."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from robot_agent.robots.check_result import CheckResult, fail, ok, warn

HOT_C = 75.0
"""A Raspberry Pi slows itself down from 80 C on."""
_FIRMWARE = "devices/platform/soc/soc:firmware/get_throttled"
_TROUBLES = ("supply voltage too low", "frequency capped", "throttled", "soft temperature limit")
"""Bits 0 to 3 of the firmware's word; 16 places higher: it has happened since the start."""
_UNDER_VOLTAGE, _SINCE_START = 1, 16
ANSWER_S = 2.0
"""The firmware answers within milliseconds, or not at all."""
_COOL_IT = "give it a heat sink, a fan or air"
_SUPPLY = "use the board's own power supply and a short cable; feed the servos from another one"


def check_board(system: Path = Path("/sys")) -> Iterator[CheckResult]:
    """Look at temperature and supply; ``system`` is where the kernel tells of them."""
    yield _temperature(system)
    try:
        word = _throttled(system)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        yield warn(
            "board supply", f"the firmware does not say: {error}", "switch the board off and on"
        )
        return
    if word is not None:
        yield _supply(word)


def _temperature(system: Path) -> CheckResult:
    subject = "board temperature"
    hottest_c = max(_temperatures_c(system), default=None)
    if hottest_c is None:
        return ok(subject, "this machine does not tell")
    if hottest_c > HOT_C:
        return warn(subject, f"{hottest_c:.0f} C, above {HOT_C:.0f} C", _COOL_IT)
    return ok(subject, f"{hottest_c:.0f} C")


def _temperatures_c(system: Path) -> Iterator[float]:
    for zone in system.glob("class/thermal/thermal_zone*/temp"):
        try:
            yield int(zone.read_text()) / 1000
        except (OSError, ValueError):
            continue  # a zone that is switched off


def _supply(word: int) -> CheckResult:
    subject = "board supply"
    now, before = _troubles(word), _troubles(word >> _SINCE_START)
    if word & _UNDER_VOLTAGE:
        return fail(subject, f"now: {now}", _SUPPLY)
    if now or before:
        is_voltage = word >> _SINCE_START & _UNDER_VOLTAGE
        found = f"now: {now}" if now else f"since the start: {before}"
        return warn(subject, found, _SUPPLY if is_voltage else _COOL_IT)
    return ok(subject, "never too low, never throttled since the start")


def _troubles(word: int) -> str:
    return ", ".join(text for bit, text in enumerate(_TROUBLES) if word >> bit & 1)


def _throttled(system: Path) -> int | None:
    """Return the firmware's word; None where there is no such firmware.

    Raises:
        OSError, ValueError, subprocess.SubprocessError: it does not answer, or with no number.
    """
    word = system / _FIRMWARE
    if word.exists():
        return int(word.read_text(), 16)
    tool = shutil.which("vcgencmd")
    if tool is None:
        return None
    said = _answer_of(tool)
    found = re.search(r"throttled=0x([0-9a-fA-F]+)", said)
    return int(found[1], 16) if found else None


def _answer_of(tool: str) -> str:
    """Ask the firmware. Raises subprocess.TimeoutExpired if it does not answer."""
    with tempfile.TemporaryFile("w+") as said:
        asking = subprocess.Popen(  # noqa: S603 (a path that `which` found, and words of ours)
            [tool, "get_throttled"], stdout=said, stderr=subprocess.DEVNULL
        )
        try:
            asking.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            asking.kill()
            # What hangs in the kernel does not end by that, and is not waited for.
            with suppress(subprocess.TimeoutExpired):
                asking.wait(ANSWER_S)
            raise
        said.seek(0)
        return said.read()
