"""The dry run: an agent that looks and decides, and says what it would do instead of doing it."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator
from threading import Event
from typing import cast

import numpy as np

from protocol.episode import Episode, GripperPose, Mode, Step
from protocol.errors import RejectedReleaseError
from protocol.hand_eye import HandEyeMap
from protocol.release import unpack_release
from protocol.security import load_release_public
from robot_agent.attempts.episode_loop import EpisodeLoop
from robot_agent.calibrating.calibration import saved_calibration
from robot_agent.calibrating.described_camera import described_map
from robot_agent.config import AgentConfig
from robot_agent.drivers import open_camera, open_robot
from robot_agent.policy.in_use import PolicyInUse
from robot_agent.policy.q_function import QFunction
from robot_agent.releases.last_good import FILE_NAME, LastGoodRelease
from robot_agent.robots.base import GripperModel, ReachLimitedRobot, Robot, RobotState

logger = logging.getLogger(__name__)

PAUSE_S = 1.0
FEW_MOVES = 2
Say = Callable[[str], object]


def dry_run(config: AgentConfig, stopping: Event, say: Say) -> None:
    """Make imaginary attempts until told to stop, with the last release that the robot was given.

    Robot and camera are opened and read. No motor is moved, nothing is spooled or sent.

    Args:
        config: of the robot; with ``max_attempts``, so many attempts.
        stopping: ends it.
        say: takes what would be done, a line at a time.

    Raises:
        ConfigurationError: a file, a driver or an option is wrong.
        RobotError: robot or camera do not answer.
    """
    robot = open_robot(config)
    camera = open_camera(config.camera, robot)
    try:
        hand_eye_map = _hand_eye_map(config, say)
        q_function = _last_release(config, hand_eye_map, say)
        loop = EpisodeLoop(
            config=config,
            robot=cast(Robot, DryRunRobot(robot, say)),
            camera=camera,
            calibration=hand_eye_map,
            rng=np.random.default_rng(config.seed),
        )
        max_moves = FEW_MOVES if q_function is None else q_function.collection.max_moves
        for number in _attempts(config.max_attempts, stopping):
            say(f"attempt {number}:")
            policy = PolicyInUse().identity(Mode.RANDOM)
            episode = loop.run_attempt(Mode.GREEDY, q_function, max_moves=max_moves, policy=policy)
            for line in told(episode):
                say(line)
    finally:
        camera.close()
        # The robot is not: closing it would bring it to its safe state, and so command its motors.


class DryRunRobot:
    """Where the robot inside is, and what it would have been told."""

    def __init__(self, robot: Robot, say: Say) -> None:
        self._robot = robot
        self._say = say
        if isinstance(robot, ReachLimitedRobot):
            self.nearest_reachable = robot.nearest_reachable

    @property
    def gripper(self) -> GripperModel:
        """The gripper's data sheet."""
        return self._robot.gripper

    def state(self) -> RobotState:
        """Measure pose and opening now."""
        return self._robot.state()

    def move_to(self, pose: GripperPose) -> RobotState:
        """Say where it would go."""
        self._say(f"  would move to {in_words(pose)}")
        return self.state()

    def open_gripper(self) -> float:
        """Say that it would open."""
        self._say("  would open the gripper")
        return self.state().opening_m

    def close_gripper(self) -> float:
        """Say that it would close."""
        self._say("  would close the gripper")
        return self.state().opening_m

    def retreat(self) -> RobotState:
        """Say that it would leave the camera's view."""
        self._say("  would leave the camera's view")
        return self.state()

    def prepare_attempt(self) -> bool:
        """Leave the bin as it is."""
        return True

    def stop(self) -> None:
        """It never moves."""


def told(episode: Episode) -> Iterator[str]:
    """Yield what was decided in an imaginary attempt, a line for each decision."""
    if episode.outcome.abort_reason:
        yield f"  ended by: {episode.outcome.abort_reason}"
    for number, step in enumerate(episode.steps, start=1):
        here = step.observation.pose
        yield (
            f"  decision {number}: {step.kind.value}; wished {in_words(here.moved_by(step.wished))}"
            f"; within the limits {in_words(here.moved_by(step.commanded))}; {_predicted(step)}"
        )


def in_words(pose: GripperPose) -> str:
    """Return a pose as people read it, base frame."""
    return (
        f"x {1e3 * pose.x_m:+.0f} y {1e3 * pose.y_m:+.0f} z {1e3 * pose.z_m:.0f} mm, "
        f"yaw {math.degrees(pose.yaw_rad):+.0f}°"
    )


def _predicted(step: Step) -> str:
    if step.predicted_best is None or step.predicted_stay is None:
        return "at random"
    return (
        f"predicted success {step.predicted_best:.2f}, {step.predicted_stay:.2f} if it closed now, "
        f"in {step.decision_ms:.0f} ms"
    )


def _attempts(limit: int, stopping: Event) -> Iterator[int]:
    for number in itertools.count(1):
        if stopping.is_set() or 0 < limit < number:
            return
        yield number
        if number != limit:
            stopping.wait(PAUSE_S)


def _hand_eye_map(config: AgentConfig, say: Say) -> HandEyeMap:
    saved = saved_calibration(config)
    if saved is not None:
        return saved.hand_eye_map
    say("no hand-eye map was found yet: predictions go by the description of the camera")
    aspect = config.camera.width_px / config.camera.height_px
    return described_map(config.camera_description, aspect)


def _last_release(config: AgentConfig, hand_eye_map: HandEyeMap, say: Say) -> QFunction | None:
    data = LastGoodRelease(config.state_folder / FILE_NAME).read()
    if data is None:
        say("no release was fetched yet: decisions are random")
        return None
    verify_key = load_release_public(config.learner.release_key)
    try:
        release = unpack_release(data, verify_key)
        q_function = QFunction(release, robot_id=config.name, calibration=hand_eye_map)
    except RejectedReleaseError as error:
        say(f"the last release cannot be used, decisions are random: {error}")
        return None
    say(f"release {q_function.version} decides")
    return q_function
