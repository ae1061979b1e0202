"""Emulated servos as a process of their own, with faults to order."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from protocol.errors import NoAnswerError, PortGoneError
from robot_agent.serial_bus.dynamixel import DynamixelBus
from robot_agent.serial_bus.feetech import FeetechBus
from robot_agent.serial_bus.port import SerialPort
from robot_agent.serial_bus.servo_bus import ServoBus
from tests.emulators.feetech_servos import FeetechLine, FeetechServo
from tests.emulators.servo_mechanics import Drive, FreeShafts
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=[("feetech", FeetechBus), ("dynamixel", DynamixelBus)], ids=lambda p: p[0])
def process(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[ServoBus, Callable[[str], None]]]:
    """A line as a process, the bus to it, and what gives it orders."""
    name, bus_class = request.param
    command = [sys.executable, "-m", f"tests.emulators.{name}_servos", str(tmp_path / "bus")]
    with subprocess.Popen(
        [*command, "--ids", "1", "2"],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as served:
        assert served.stdout.readline() == "ready\n"

        def order(line: str) -> None:
            print(line, file=served.stdin, flush=True)
            assert served.stdout.readline() == "done\n"

        bus = bus_class(SerialPort(tmp_path / "bus", baud=1_000_000), reply_timeout_s=0.3)
        yield bus, order
        bus.close()
        served.stdin.close()
        assert served.wait(PATIENCE_S) == 0


def test_a_line_serves_as_a_process_and_takes_orders(
    process: tuple[ServoBus, Callable[[str], None]],
):
    bus, order = process
    assert list(bus.sync_read([1, 2], 0, 4)) == [1, 2]
    order("missing 2")
    with pytest.raises(NoAnswerError, match=r"servo 2"):
        bus.sync_read([1, 2], 0, 4)
    order("back 2")
    order("silent 1")
    assert list(bus.sync_read([2, 1], 0, 4)) == [2, 1]
    order("unplug")
    with pytest.raises(PortGoneError):
        bus.read(1, 0, 4)
    order("plug")
    assert list(bus.sync_read([1, 2], 0, 4)) == [1, 2]


def test_free_shafts_move_no_faster_than_they_may_and_arrive():
    shafts = FreeShafts()
    drive = Drive(
        is_on=True, goal_rad=1.0, max_speed_rad_s=0.5, max_acceleration_rad_s2=2.0, max_torque=1.0
    )
    speeds = [0.0]
    for _ in range(300):
        speeds.append(shafts.step({1: drive}, 0.01)[1].velocity_rad_s)
    changes = [abs(later - earlier) for earlier, later in pairwise(speeds)]
    assert max(speeds) == pytest.approx(0.5)
    assert max(changes) <= 2 * 2.0 * 0.01 + 1e-9  # the last step ends on the goal
    assert shafts.shafts[1].position_rad == pytest.approx(1.0)


def test_a_shaft_that_cannot_carry_its_weight_sinks():
    shafts = FreeShafts()
    shafts.weights[1] = 0.5
    drive = Drive(
        is_on=True, goal_rad=0.0, max_speed_rad_s=1.0, max_acceleration_rad_s2=9.0, max_torque=0.7
    )
    assert shafts.step({1: drive}, 0.1)[1].position_rad == 0.0
    drive.max_torque = 0.4
    assert shafts.step({1: drive}, 0.1)[1].position_rad < 0.0


def test_a_reset_servo_keeps_what_was_written_unlocked_and_forgets_the_rest():
    servo = FeetechServo(servo_id=1)
    FeetechLine([servo], is_real_time=False)
    servo.write(9, b"\x10\x00")  # locked: until the next reset only
    servo.write(40, b"\x01")
    servo.reset()
    assert (servo.memory[9], servo.memory[40]) == (0, 0)
    servo.write(55, b"\x00")
    servo.write(9, b"\x10\x00")
    servo.reset()
    assert servo.memory[9] == 0x10


def test_a_servo_makes_where_it_stands_its_middle():
    servo = FeetechServo(servo_id=1)
    line = FeetechLine([servo], is_real_time=False)
    servo.shaft.position_rad = 0.5
    line.step(0.0)
    servo.write(40, b"\x80")
    line.step(0.0)
    assert int.from_bytes(servo.memory[56:58], "little") == 2048
