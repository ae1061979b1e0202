"""What ``robot-agent check`` says of an arm's motors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from protocol.errors import ConfigurationError, RobotError
from robot_agent.arms.servo_group import ServoGroup, ServoReadings
from robot_agent.arms.servo_watch import ServoWatch
from robot_agent.robots.check_result import CheckResult, fail, ok, warn

WARM_SHARE = 0.85
"""Of the temperature at which the arm is stopped."""
PROBES = 40
"""The motors are asked so often to learn how their bus is."""
MOST_DAMAGED = 0.02
"""Of the requests; a bus that is well damages hardly any."""


def check_servos(servos: ServoGroup, watch: ServoWatch) -> Iterator[CheckResult]:
    """Say of each motor what it measures of itself, against the limits of ``watch``; nothing
    moves.
    """
    try:
        readings = servos.read()
    except (RobotError, ConfigurationError) as error:
        motors = ", ".join(watch.motors)
        yield fail(f"servos {motors}", str(error), "see to cables and supply, then check again")
        return
    for index, motor in enumerate(watch.motors):
        yield _check(f"servo {motor}", readings, index, watch)


def check_bus(servos: ServoGroup) -> Iterator[CheckResult]:
    """Ask the motors many times; say how many answers came damaged or had to be asked for again.

    Says nothing of motors that do not answer at all: ``check_servos`` does.
    """
    subject, before = "servo bus", replace(servos.counters)
    answered = 0
    try:
        for answered in range(PROBES):  # noqa: B007 (read where it ends early)
            servos.read()
    except (RobotError, ConfigurationError) as error:
        if answered:
            yield fail(subject, str(error), "see to cables and supply, then check again")
        return
    now = servos.counters
    asked = now.transactions - before.transactions
    damaged = now.checksum_errors - before.checksum_errors
    finding = f"{damaged} damaged answers and {now.retries - before.retries} tries again in {asked}"
    if damaged > MOST_DAMAGED * asked:
        yield warn(
            subject,
            f"{finding}, more than {MOST_DAMAGED:.0%} damaged",
            "press every plug of the bus in, keep it away from the supply's wires, and replace the "
            "cable that is worst when it is moved",
        )
    else:
        yield ok(subject, finding)


def _check(subject: str, readings: ServoReadings, index: int, watch: ServoWatch) -> CheckResult:
    celsius, volts = float(readings.temperatures_c[index]), float(readings.voltages_v[index])
    low_v, high_v = watch.voltage_v
    finding = f"{volts:.1f} V, {celsius:.0f} degrees C"
    if readings.faults[index]:
        return fail(
            subject,
            f"{finding}; reports: {', '.join(sorted(readings.faults[index]))}",
            "look for what blocks or strains it; switch its supply off and on",
        )
    if not low_v <= volts <= high_v:
        return fail(
            subject,
            f"{finding}; needs {low_v:.1f} to {high_v:.1f} V",
            "use the right power supply, and a plug that sits; or set min_voltage_v and "
            "max_voltage_v to what these motors need",
        )
    if celsius > WARM_SHARE * watch.max_temperature_c:
        return warn(
            subject,
            f"{finding}; stopped at {watch.max_temperature_c:.0f}",
            "let it cool down; look for what it strains against",
        )
    return ok(subject, finding)
