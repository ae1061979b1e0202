"""ServoWatch: what motors say of themselves, and what is done about it.

| what                                       | becomes                                       |
|--------------------------------------------|-----------------------------------------------|
| hotter than ``safety.max_temperature_c``   | SafetyFault                                   |
| the motor itself says overheated           | SafetyFault                                   |
| angle sensor or hardware fault             | SafetyFault                                   |
| supply above what the motors bear          | SafetyFault                                   |
| supply below what they need (brown-out),   | RobotError                                    |
| or the motor itself says out of range      |                                               |
| a motor that held has switched itself off  | SafetyFault (by the ServoGroup)               |
| overload or overcurrent                    | RobotError; SafetyFault the third time in     |
|                                            | succession without a motion that succeeded    |

Each must be read three times in succession: one byte that noise changed stops no robot. Only an
overload counts at once, because the next goal may clear it. A gripper's motor may be overloaded:
that is how it grips, and it then limits itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from protocol.errors import RobotError, SafetyFault
from robot_agent.arms.servo_group import ServoFault, ServoReadings

PATIENCE = 3
"""Readings in succession."""
OVERLOADS = 3
"""Aborted motions in succession."""

_OVERLOADS = frozenset({ServoFault.OVERLOAD, ServoFault.OVERCURRENT})
_FATAL = frozenset({ServoFault.OVERHEATED, ServoFault.SENSOR})


class ServoWatch:
    """Judges the readings of one group of motors."""

    def __init__(
        self,
        robot: str,
        motors: Sequence[str],
        *,
        max_temperature_c: float,
        voltage_v: tuple[float, float],
        may_overload: bool = False,
    ) -> None:
        """Begin without a complaint.

        Args:
            robot: its name, for what is said of it.
            motors: their names, in the group's order.
            max_temperature_c: of any of them.
            voltage_v: lowest and highest supply with which they work.
            may_overload: whether overload and overcurrent are none of its business.
        """
        self._robot = robot
        self.motors = motors
        self.max_temperature_c = max_temperature_c
        self.voltage_v = voltage_v
        self._may_overload = may_overload
        self._seen: Counter[str] = Counter()
        self._overloads = 0

    def check(self, readings: ServoReadings) -> None:
        """Take what was just read.

        Raises:
            SafetyFault: only a person may resume; see the table above.
            RobotError: the attempt must be aborted.
        """
        found = dict(self._complaints(readings))
        self._seen = Counter({kind: self._seen[kind] + 1 for kind in found})
        for kind, error in found.items():
            if kind == "overload":
                raise self._worse(error)
            if self._seen[kind] == PATIENCE:
                self._seen[kind] = 0
                raise error

    def note_success(self) -> None:
        """A motion ended as it should: overloads from before it no longer count."""
        self._overloads = 0

    def _worse(self, error: RobotError) -> RobotError:
        self._overloads += 1
        if self._overloads < OVERLOADS:
            return error
        return SafetyFault(f"{error}; {OVERLOADS} times in succession")

    def _complaints(self, readings: ServoReadings) -> Iterator[tuple[str, RobotError]]:
        """Yield what is wrong, the worst first, at most one of a kind."""
        hottest = int(np.argmax(readings.temperatures_c))
        if (celsius := readings.temperatures_c[hottest]) > self.max_temperature_c:
            yield (
                "temperature",
                SafetyFault(
                    f"{self._of(hottest)} is at {celsius:g} degrees C, more than "
                    f"{self.max_temperature_c:g}; let it cool down and find out what it strains "
                    "against"
                ),
            )
        yield from self._faults(readings)
        low_v, high_v = self.voltage_v
        if (highest := readings.voltages_v.max()) > high_v:
            yield (
                "high voltage",
                SafetyFault(
                    f"{self._robot}: the supply gives {highest:.1f} V, the motors bear {high_v:.1f}"
                    "; use the right power supply"
                ),
            )
        if (lowest := readings.voltages_v.min()) < low_v:
            yield (
                "low voltage",
                RobotError(
                    f"{self._robot}: the supply fell to {lowest:.1f} V, the motors need "
                    f"{low_v:.1f}; check power supply and plugs"
                ),
            )

    def _faults(self, readings: ServoReadings) -> Iterator[tuple[str, RobotError]]:
        for index, faults in enumerate(readings.faults):
            for fault in sorted(faults & _FATAL):
                yield fault, SafetyFault(f"{self._of(index)} reports: {fault}; it needs a person")
        for index, faults in enumerate(readings.faults):
            overload = sorted(faults & _OVERLOADS)
            if overload and not self._may_overload:
                yield "overload", RobotError(f"{self._of(index)} reports: {overload[0]}")
            if ServoFault.VOLTAGE in faults:
                yield "voltage", RobotError(f"{self._of(index)} reports: {ServoFault.VOLTAGE}")

    def _of(self, index: int) -> str:
        return f"{self._robot}: motor {self.motors[index]}"
