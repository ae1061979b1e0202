"""What is peculiar to Dynamixel motors in an arm, on an emulated line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol.errors import ConfigurationError
from robot_agent.arms.dynamixel_servos import DynamixelServos
from robot_agent.serial_bus.dynamixel import DynamixelBus
from robot_agent.serial_bus.port import SerialPort
from tests.emulators.dynamixel_servos import DynamixelLine, DynamixelServo
from tests.emulators.pty_port import PtyPort


@contextmanager
def group_of(motor: DynamixelServo, folder: Path) -> Iterator[DynamixelServos]:
    """Yield a group of this one motor, on a line of its own."""
    line = DynamixelLine([motor], supply_v=12.0, is_real_time=False)
    with PtyPort(line, folder / "bus") as cable:
        port = SerialPort(cable.path, baud=1_000_000)
        group = DynamixelServos(DynamixelBus(port, reply_timeout_s=0.5), [motor.servo_id])
        yield group
        group.close()


@pytest.mark.parametrize("model", [1060, 1020])
def test_each_dynamixel_is_limited_by_what_it_can_measure(tmp_path: Path, model: int):
    motor = DynamixelServo(servo_id=1, model=model)
    with group_of(motor, tmp_path) as group:
        group.set_torque(True, 0.5)
    assert motor.memory[11] == (5 if model == 1020 else 3)
    assert motor.drive().max_torque == pytest.approx(0.5, abs=0.01)


def test_a_dynamixel_that_holds_in_another_mode_is_not_dropped(tmp_path: Path):
    motor = DynamixelServo(servo_id=1, model=1020)
    motor.memory[64] = 1
    with (
        group_of(motor, tmp_path) as group,
        pytest.raises(ConfigurationError, match=r"servo 1 holds in mode 3 instead of 5"),
    ):
        group.set_torque(True, 0.5)
    assert motor.memory[64] == 1


def test_a_dynamixel_that_takes_speeds_for_times_is_not_switched_on(tmp_path: Path):
    motor = DynamixelServo(servo_id=1)
    motor.memory[10] = 0x05
    with (
        group_of(motor, tmp_path) as group,
        pytest.raises(ConfigurationError, match=r"servo 1 takes speeds for times"),
    ):
        group.set_torque(True, 0.5)
    assert (motor.memory[10], motor.memory[64]) == (0x05, 0)
