"""What an agent tells of its robot's health, after attempts that end in every way."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocol.codec import decode_message, encode_message
from protocol.episode import Episode
from protocol.errors import (
    CameraError,
    GraspFleetError,
    NonFiniteScoreError,
    RobotError,
    SafetyFault,
)
from protocol.hand_eye import HandEyeMap
from protocol.messages import Heartbeat, RobotHealth, ToGateway
from robot_agent.attempts.camera_shift import CameraShift
from robot_agent.attempts.gripper_zero import GripperZero
from robot_agent.health import Health
from robot_agent.robots.simulated import SimulatedRobot
from tests.delivery_site import make_heartbeat
from tests.episodes import make_episode


class WarmRobot(SimulatedRobot):
    """Says what it is told to say."""

    reading: float | RobotError = 41.5

    def temperature_c(self) -> float:
        if isinstance(self.reading, RobotError):
            raise self.reading
        return self.reading


@pytest.fixture(scope="module")
def robot() -> WarmRobot:
    return WarmRobot.open({})


@pytest.fixture
def health_of(tmp_path: Path) -> Callable[[SimulatedRobot], Health]:
    calibration = HandEyeMap(matrix=np.eye(3, 4, dtype=np.float32))
    return lambda robot: Health(
        robot, CameraShift(tmp_path, calibration), GripperZero(tmp_path, 0.0)
    )


def attempt(every_s: float = 0.25) -> Episode:
    """Return an attempt of five steps."""
    episode = make_episode(steps=5)
    steps = [
        dataclasses.replace(
            step,
            observation=dataclasses.replace(
                step.observation, captured_at_ns=10**18 + int(number * every_s * 1e9)
            ),
        )
        for number, step in enumerate(episode.steps)
    ]
    return dataclasses.replace(episode, steps=tuple(steps))


def as_received(health: RobotHealth) -> RobotHealth | None:
    beat: Heartbeat = make_heartbeat()
    fields = {name: getattr(beat, name) for name in beat.__struct_fields__}
    message = decode_message(encode_message(Heartbeat(**fields | {"health": health})), ToGateway)
    assert isinstance(message, Heartbeat)
    return message.health


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, (True, True, 0, 0, 0)),
        (CameraError("no picture"), (False, True, 1, 0, 0)),
        (RobotError("servo 3 does not answer"), (True, False, 0, 1, 0)),
        (SafetyFault("emergency stop"), (True, True, 0, 0, 1)),
        (NonFiniteScoreError("NaN"), (True, True, 0, 0, 0)),
    ],
)
def test_a_fault_is_put_down_to_what_failed(
    robot: WarmRobot,
    health_of: Callable[[SimulatedRobot], Health],
    error: GraspFleetError | None,
    told: tuple[bool, bool, int, int, int],
):
    health = health_of(robot)
    health.note_error(error)
    found = health.report()
    assert (
        found.camera_ok,
        found.servos_ok,
        found.camera_faults,
        found.servo_faults,
        found.safety_stops,
    ) == told


def test_an_attempt_that_was_finished_shows_that_all_works_again(
    robot: WarmRobot, health_of: Callable[[SimulatedRobot], Health]
):
    health = health_of(robot)
    health.note_error(CameraError("no picture"))
    health.note_attempt(attempt(), None)
    found = health.report()
    assert (found.camera_ok, found.camera_faults) == (True, 1)
    assert found.servo_hz == pytest.approx(4.0)
    assert found.temperature_c == 41.5


def test_a_robot_without_a_thermometer_says_nothing(
    health_of: Callable[[SimulatedRobot], Health],
):
    health = health_of(SimulatedRobot.open({}))
    health.note_attempt(attempt(), None)
    assert health.report().temperature_c is None


@pytest.mark.parametrize("reading", [math.nan, 1e6, RobotError("no answer")])
def test_a_reading_that_can_be_none_is_left_out_and_the_rest_still_arrives(
    health_of: Callable[[SimulatedRobot], Health], reading: float | RobotError
):
    robot = WarmRobot.open({})
    robot.reading = reading
    health = health_of(robot)
    health.note_attempt(attempt(), None)
    received = as_received(health.report())
    assert received is not None
    assert received.temperature_c is None
    assert received.servo_hz == pytest.approx(4.0)


def test_a_dead_thermometer_is_logged_once_and_is_no_fault_of_the_arm(
    health_of: Callable[[SimulatedRobot], Health], caplog: pytest.LogCaptureFixture
):
    robot = WarmRobot.open({})
    robot.reading = RobotError("thermometer: no answer")
    health = health_of(robot)
    for _ in range(3):
        health.note_attempt(attempt(), None)
    found = health.report()
    assert (found.servos_ok, found.servo_faults, found.temperature_c) == (True, 0, None)
    assert caplog.text.count("thermometer: no answer") == 1
