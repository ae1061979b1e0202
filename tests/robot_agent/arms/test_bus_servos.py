"""Bus servos as the motors of an arm: one suite over both makes, on emulated lines."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.errors import ConfigurationError, NoAnswerError, PortGoneError, SafetyFault
from robot_agent.arms.dynamixel_servos import DynamixelServos
from robot_agent.arms.feetech_servos import FeetechServos
from robot_agent.arms.holding import hold_still
from robot_agent.arms.servo_group import ServoFault, ServoGroup
from robot_agent.arms.servo_identity import identities
from robot_agent.serial_bus.dynamixel import DynamixelBus
from robot_agent.serial_bus.feetech import FeetechBus
from robot_agent.serial_bus.port import SerialPort
from tests.emulators.dynamixel_servos import DynamixelLine, DynamixelServo
from tests.emulators.feetech_servos import FeetechLine, FeetechServo
from tests.emulators.pty_port import PtyPort
from tests.emulators.servo_line import EmulatedLine

IDS = [1, 2, 3, 4, 5]
COUNT_RAD = 2 * math.pi / 4096
SPEED, ACCELERATION = np.full(5, 1.0), np.full(5, 8.0)
STEP_S = 0.002


@dataclass(frozen=True, kw_only=True)
class Make:
    servo: Callable[..., Any]
    line: Callable[..., EmulatedLine[Any]]
    bus: Callable[..., Any]
    group: Callable[..., Any]
    supply_v: float
    torque_at: int
    model: int
    home: Callable[[Any, int], None]
    """Give a motor another zero, as its maker's tool does."""
    written_to_all: frozenset[int]
    """Addresses of what nobody acknowledges."""


FEETECH = Make(
    servo=FeetechServo,
    line=FeetechLine,
    bus=FeetechBus,
    group=FeetechServos,
    supply_v=7.4,
    torque_at=40,
    model=777,
    home=FeetechServo.home,
    written_to_all=frozenset({40, 48}),
)
DYNAMIXEL = Make(
    servo=DynamixelServo,
    line=DynamixelLine,
    bus=DynamixelBus,
    group=DynamixelServos,
    supply_v=12.0,
    torque_at=64,
    model=1020,
    home=DynamixelServo.home,
    written_to_all=frozenset({100, 102}),
)


@pytest.fixture(params=[FEETECH, DYNAMIXEL], ids=["feetech", "dynamixel"])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param


@pytest.fixture
def line(make: Make) -> EmulatedLine[Any]:
    """Time passes only when a test says so."""
    servos = [make.servo(servo_id=one) for one in IDS]
    return make.line(servos, supply_v=make.supply_v, is_real_time=False)


@pytest.fixture
def cable(line: EmulatedLine[Any], tmp_path: Path) -> Iterator[PtyPort]:
    with PtyPort(line, tmp_path / "bus") as cable:
        yield cable


@pytest.fixture
def servos(make: Make, cable: PtyPort) -> Iterator[ServoGroup]:
    port = SerialPort(cable.path, baud=1_000_000)
    group = make.group(make.bus(port, reply_timeout_s=0.2), IDS)
    yield group
    group.close()


def _pass(line: EmulatedLine[Any], duration_s: float) -> None:
    for _ in range(round(duration_s / STEP_S)):
        line.step(STEP_S)


def _heard(servos: ServoGroup) -> None:
    """Wait for an answer: nobody acknowledges a goal, and time must not pass before it is heard."""
    servos.read()


def _place(line: EmulatedLine[Any], positions_rad: list[float]) -> None:
    for servo_id, position_rad in zip(IDS, positions_rad, strict=True):
        line.servos[servo_id].shaft.position_rad = position_rad
    line.step(0.0)


def test_motors_measure_themselves(servos: ServoGroup, line: EmulatedLine[Any], make: Make):
    _place(line, [0.0, 0.5, -0.5, 1.0, -1.5])
    before_ns = time.time_ns()
    readings = servos.read()
    assert before_ns <= readings.read_at_ns <= time.time_ns()
    assert readings.positions_rad == pytest.approx([0.0, 0.5, -0.5, 1.0, -1.5], abs=COUNT_RAD)
    assert readings.temperatures_c == pytest.approx(np.full(5, 30.0))
    assert readings.voltages_v == pytest.approx(np.full(5, make.supply_v))
    assert readings.loads == pytest.approx(np.zeros(5))
    assert readings.velocities_rad_s == pytest.approx(np.zeros(5))
    assert not any(readings.faults)


def test_motors_say_which_they_are_and_from_where_they_count(
    servos: ServoGroup, line: EmulatedLine[Any], make: Make
):
    make.home(line.servos[2], -300)
    offsets = [one.homing_offset for one in identities(servos)]
    assert offsets == [0, -300, 0, 0, 0]
    assert [one.servo_id for one in identities(servos)] == IDS
    assert {one.model for one in identities(servos)} == {make.model}


def test_motors_reach_their_goals_no_faster_than_they_may(
    servos: ServoGroup, line: EmulatedLine[Any]
):
    servos.set_torque(True, 1.0)
    goals = np.array([0.4, -0.4, 0.2, -0.2, 0.0])
    servos.command(goals, speeds_rad_s=SPEED, accelerations_rad_s2=ACCELERATION)
    speeds = [np.zeros(5)]
    for _ in range(40):
        _pass(line, 0.02)
        readings = servos.read()
        speeds.append(readings.velocities_rad_s)
    assert readings.positions_rad == pytest.approx(goals, abs=COUNT_RAD)
    assert readings.velocities_rad_s == pytest.approx(np.zeros(5))
    one_step = 0.024  # the coarser of the two makes' units of speed
    assert np.abs(speeds).max() <= 1.0 + one_step
    assert np.abs(speeds)[:, 0].max() > 0.9
    assert np.abs(np.diff(speeds, axis=0)).max() <= 8.0 * 0.02 + one_step


def test_a_wished_crawl_is_not_taken_for_no_limit(servos: ServoGroup, line: EmulatedLine[Any]):
    servos.set_torque(True, 1.0)
    crawl = np.full(5, 1e-6)
    servos.command(np.full(5, 1.0), speeds_rad_s=crawl, accelerations_rad_s2=crawl)
    _heard(servos)
    _pass(line, 1.0)
    assert np.abs(servos.read().positions_rad).max() < 0.05


def test_a_motor_that_is_switched_on_stays_where_it_is(servos: ServoGroup, line: EmulatedLine[Any]):
    here = [0.3, -0.3, 0.6, -0.6, 0.9]
    _place(line, here)
    servos.set_torque(True, 0.5)
    _pass(line, 0.5)
    readings = servos.read()
    assert readings.positions_rad == pytest.approx(here, abs=COUNT_RAD)
    assert readings.velocities_rad_s == pytest.approx(np.zeros(5))


def test_a_motor_that_is_on_keeps_its_goal_when_its_limit_changes(
    servos: ServoGroup, line: EmulatedLine[Any]
):
    servos.set_torque(True, 1.0)
    servos.command(np.full(5, 0.4), speeds_rad_s=SPEED, accelerations_rad_s2=ACCELERATION)
    _pass(line, 0.1)
    servos.set_torque(True, 0.4)
    _pass(line, 1.0)
    assert servos.read().positions_rad == pytest.approx(np.full(5, 0.4), abs=COUNT_RAD)


def test_motors_that_are_switched_off_go_nowhere(
    servos: ServoGroup, line: EmulatedLine[Any], make: Make
):
    servos.set_torque(True, 1.0)
    servos.set_torque(False, 1.0)
    servos.command(np.full(5, 0.4), speeds_rad_s=SPEED, accelerations_rad_s2=ACCELERATION)
    _heard(servos)
    _pass(line, 0.5)
    assert servos.read().positions_rad == pytest.approx(np.zeros(5), abs=COUNT_RAD)
    assert [servo.memory[make.torque_at] for servo in line.servos.values()] == [0] * 5


def test_motors_tell_their_goals_while_they_are_on(servos: ServoGroup, line: EmulatedLine[Any]):
    _place(line, [0.3] * 5)
    assert np.isnan(servos.read().goals_rad).all()
    servos.set_torque(True, 1.0)
    assert servos.read().goals_rad == pytest.approx(np.full(5, 0.3), abs=COUNT_RAD)
    servos.command(np.full(5, -0.4), speeds_rad_s=SPEED, accelerations_rad_s2=ACCELERATION)
    assert servos.read().goals_rad == pytest.approx(np.full(5, -0.4), abs=COUNT_RAD)


def test_however_often_motors_are_stopped_under_their_load_they_do_not_sink(
    servos: ServoGroup, line: EmulatedLine[Any]
):
    line.mechanics.weights.update({2: 0.3, 3: -0.2})
    line.mechanics.give_rad = 0.15
    servos.set_torque(True, 1.0)
    goals = np.array([0.2, 0.4, -0.4, 0.0, 0.0])
    servos.command(goals, speeds_rad_s=SPEED, accelerations_rad_s2=ACCELERATION)
    _heard(servos)
    _pass(line, 1.0)
    loaded = servos.read().positions_rad
    assert goals - loaded == pytest.approx([0.0, 0.045, -0.03, 0.0, 0.0], abs=COUNT_RAD)
    for _ in range(4):
        hold_still(servos, 0.4)
        _pass(line, 0.5)
        assert servos.read().positions_rad == pytest.approx(loaded, abs=1e-6)


def test_motors_that_are_stopped_on_their_way_stay_where_they_are(
    servos: ServoGroup, line: EmulatedLine[Any]
):
    servos.set_torque(True, 1.0)
    far = np.array([1.0, -1.0, 0.5, 0.5, -0.5])
    servos.command(far, speeds_rad_s=SPEED, accelerations_rad_s2=ACCELERATION)
    _heard(servos)
    _pass(line, 0.2)
    before = servos.read().positions_rad
    hold_still(servos, 0.4)
    _pass(line, 1.0)
    assert servos.read().positions_rad == pytest.approx(before, abs=0.1)


def test_a_blocked_motor_that_is_stopped_ceases_to_push(
    servos: ServoGroup, line: EmulatedLine[Any]
):
    line.mechanics.blocks[2] = (-0.1, 0.1)
    servos.set_torque(True, 1.0)
    servos.command(np.full(5, 0.2), speeds_rad_s=SPEED, accelerations_rad_s2=ACCELERATION)
    _heard(servos)
    _pass(line, 1.0)
    assert servos.read().loads[1] > 0.5
    hold_still(servos, 0.4)
    _pass(line, 0.5)
    assert servos.read().loads[1] == pytest.approx(0.0, abs=0.02)


def test_a_blocked_motor_pushes_no_harder_than_its_limit(
    servos: ServoGroup, line: EmulatedLine[Any]
):
    line.mechanics.blocks[2] = (-0.1, 0.1)
    servos.set_torque(True, 0.3)
    servos.command(np.full(5, 0.5), speeds_rad_s=SPEED, accelerations_rad_s2=ACCELERATION)
    _heard(servos)
    _pass(line, 1.0)
    readings = servos.read()
    assert readings.loads[1] == pytest.approx(0.3, abs=0.01)
    assert readings.positions_rad[1] == pytest.approx(0.1, abs=2 * COUNT_RAD)
    assert readings.loads[[0, 2, 3, 4]] == pytest.approx(np.zeros(4))


def test_what_a_motor_complains_of_is_told_of_that_motor(
    servos: ServoGroup, line: EmulatedLine[Any]
):
    line.servos[3].overload()
    line.servos[5].temperature_c = 95.0
    line.step(STEP_S)
    line.step(STEP_S)
    faults = servos.read().faults
    assert faults == (
        frozenset(),
        frozenset(),
        frozenset({ServoFault.OVERLOAD}),
        frozenset(),
        frozenset({ServoFault.OVERHEATED}),
    )


def test_a_brown_out_is_a_safety_fault_once_the_motors_have_let_go(
    servos: ServoGroup, line: EmulatedLine[Any]
):
    servos.set_torque(True, 0.7)
    line.brown_out()
    _pass(line, 0.1)
    assert servos.read().voltages_v.max() < 5.0
    _pass(line, 0.2)
    with pytest.raises(SafetyFault, match=r"servo 1.*5 switched itself off.*supply broke"):
        servos.read()
    # What a person, or the stop after the fault, asks for next is possible at once.
    servos.set_torque(True, 0.4)
    assert servos.read().positions_rad == pytest.approx(np.zeros(5), abs=COUNT_RAD)


def test_an_overheated_motor_that_lets_go_is_a_safety_fault(
    servos: ServoGroup, line: EmulatedLine[Any]
):
    servos.set_torque(True, 0.7)
    line.servos[2].temperature_c = 95.0
    _pass(line, 2 * STEP_S)
    with pytest.raises(SafetyFault, match=r"servo 2"):
        servos.read()


def test_a_missing_motor_is_named_and_the_others_are_limited_all_the_same(
    servos: ServoGroup, line: EmulatedLine[Any]
):
    servos.set_torque(True, 1.0)
    line.servos[4].is_missing = True
    with pytest.raises(NoAnswerError, match=r"servo 4 did not answer"):
        servos.read()
    with pytest.raises(NoAnswerError, match=r"servo 4 did not answer"):
        servos.set_torque(True, 0.4)
    limits = [line.servos[one].drive().max_torque for one in (1, 2, 3, 5)]
    assert limits == pytest.approx([0.4] * 4, abs=0.01)


def test_a_command_while_the_cable_is_out_is_an_error_and_the_next_one_arrives(
    servos: ServoGroup, line: EmulatedLine[Any], cable: PtyPort
):
    servos.set_torque(True, 1.0)
    cable.unplug()
    with pytest.raises(PortGoneError):
        servos.command(np.full(5, 0.4), speeds_rad_s=SPEED, accelerations_rad_s2=ACCELERATION)
    cable.plug()
    servos.command(np.full(5, 0.2), speeds_rad_s=SPEED, accelerations_rad_s2=ACCELERATION)
    _heard(servos)
    _pass(line, 1.0)
    assert servos.read().positions_rad == pytest.approx(np.full(5, 0.2), abs=COUNT_RAD)


def test_a_motor_that_missed_what_was_written_to_all_is_told_again(
    servos: ServoGroup, line: EmulatedLine[Any], make: Make
):
    servo = line.servos[3]
    hear, unheard = servo.write, set(make.written_to_all)

    def miss_once(address: int, data: bytes) -> int:
        if address in unheard:
            unheard.remove(address)
            return 0
        return hear(address, data)

    servo.write = miss_once
    servos.set_torque(True, 0.25)
    assert servo.drive().is_on
    assert servo.drive().max_torque == pytest.approx(0.25, abs=0.01)
    assert len(unheard) < len(make.written_to_all)


def test_a_motor_of_another_series_is_refused_by_name(servos: ServoGroup, line: EmulatedLine[Any]):
    servos.check_models()
    line.servos[4].memory[0:5] = b"\x0c\x00\x00\x0c\x00"
    with pytest.raises(ConfigurationError, match=r"servo 4 is of model 12"):
        servos.check_models()
