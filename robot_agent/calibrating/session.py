"""CalibrationSession: opens a robot for what is to be measured, and keeps its agent away."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, HandEyeError
from robot_agent.arms.clock import Clock, SystemClock
from robot_agent.calibrating.board_fit import BoardTask, fit_board
from robot_agent.calibrating.board_views import see_held, see_lying
from robot_agent.calibrating.calibration import Calibration, keep
from robot_agent.calibrating.guide import Guide
from robot_agent.calibrating.jointed_robot import JointedRobot
from robot_agent.calibrating.marker_board import MarkerBoard
from robot_agent.calibrating.own_motion import find_hand_eye_map
from robot_agent.cameras.base import Camera
from robot_agent.cameras.detail import detailed
from robot_agent.config import AgentConfig, CameraConfig
from robot_agent.delivery.outbox_file import claim
from robot_agent.drivers import open_camera
from robot_agent.safety.attended_robot import AttendedRobot, attended_robot
from robot_agent.safety.emergency_stop import EmergencyStop
from robot_agent.safety.workspace import Workspace

CLEAR_THE_WAY = (
    "The arm will move by itself: it rises, swings to its parking place, then goes above the bin. "
    "Clear its reach, and keep your hands out of it. Space or Ctrl-C stops it."
)


class CalibrationSession:
    """One robot while it is calibrated; to be used as a context."""

    def __init__(
        self,
        config: AgentConfig,
        guide: Guide,
        emergency: EmergencyStop,
        clock: Clock | None = None,
    ) -> None:
        """Take the robot's state folder.

        Args:
            config: of the robot.
            guide: tells and asks the person.
            emergency: what stops the robot, looking already. Everything here raises SafetyFault
                once it was stopped.
            clock: for every wait.

        Raises:
            ConfigurationError: its agent runs.
        """
        self._config = config
        self._emergency = emergency
        self._guide = guide
        self._clock = clock or SystemClock()
        self._rng = np.random.default_rng(config.seed)
        self._claimed = claim(config.state_folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._claimed.close()

    def measure_arm(
        self,
        only: Literal["joints", "gripper"] | None,
        reverse: Collection[str] = (),
        endless: Collection[str] = (),
    ) -> None:
        """Measure joints and gripper, or one of them; see ``arm_calibration``.

        Raises:
            ConfigurationError: ``only`` asks for it, and the robot has no joints of ours.
        """
        folder = self._config.state_folder
        # As if it had never been calibrated: what there is may be of another.
        with (
            tempfile.TemporaryDirectory() as empty,
            attended_robot(self._config, self._emergency, Path(empty)) as attended,
        ):
            robot = attended.bare
            if not isinstance(robot, JointedRobot):
                if only is not None:
                    raise ConfigurationError(
                        f"{self._config.name}: {self._config.robot.driver} has no joints to "
                        "calibrate; use --only hand-eye or --only board"
                    )
                return
            # Loaded only here: an arm needs more than the agent of a robot without joints has.
            from robot_agent.calibrating.arm_calibration import calibrate_gripper, calibrate_joints

            if only != "gripper":
                calibrate_joints(
                    *(robot, folder),
                    guide=self._guide,
                    clock=self._clock,
                    reverse=reverse,
                    endless=endless,
                )
            if only != "joints":
                calibrate_gripper(
                    robot, folder, guide=self._guide, clock=self._clock, reverse=reverse
                )

    def find_hand_eye_map(self) -> Calibration:
        """Find the map by the robot's own motion, and keep it.

        Raises:
            HandEyeError: the camera does not see the gripper, or nothing explains what it sees.
        """
        self._guide.confirm(CLEAR_THE_WAY)
        config = self._config
        with self._robot() as attended, closing(_camera(config.camera, attended)) as camera:
            found = find_hand_eye_map(attended.robot, camera, config, self._rng)
        if not found.trusted:
            raise HandEyeError(
                f"{self._config.name}: the gripper's outline leaves {found.residual:.0%} of what "
                "moved unexplained; check camera_description and where the camera points"
            )
        keep(found, self._config)
        self._guide.say(
            f"Hand-eye map found: {found.residual:.0%} of what moved is left unexplained."
        )
        return found

    def find_board_map(
        self, board: MarkerBoard, places: Sequence[GripperPose], above_tips_m: float | None
    ) -> Calibration:
        """Find the map by a marker board, and keep it.

        Args:
            board: what was printed.
            places: where it is put, one after the other; none for a board in the hand.
            above_tips_m: of a board in the hand, the height of its middle above the finger tips;
                None for one that lies.

        Raises:
            HandEyeError: see ``fit_board``.
        """
        config, guide = self._config, self._guide
        camera_config = detailed(config.camera)
        guide.confirm(CLEAR_THE_WAY)
        with self._robot() as attended, closing(_camera(camera_config, attended)) as camera:
            robot = attended.robot
            if above_tips_m is None:
                views = see_lying(robot, camera, board, places, guide)
            else:
                workspace = Workspace(config.workspace)
                views = see_held(
                    *(robot, camera, board, workspace),
                    above_tips_m=above_tips_m,
                    guide=guide,
                    rng=self._rng,
                )
        task = BoardTask(
            board=board,
            description=config.camera_description,
            workspace=config.workspace,
            size_px=(camera_config.width_px, camera_config.height_px),
            above_tips_m=above_tips_m,
        )
        by_board = fit_board(views, task)
        found = Calibration(
            hand_eye_map=by_board.hand_eye_map,
            residual=0.0,
            trusted=True,
            board_rms_px=by_board.residual_px,
        )
        keep(found, config)
        guide.say(
            f"Hand-eye map found: corners are {by_board.residual_px:.2f} px from where it puts "
            f"them, over {by_board.views} pictures; it may be off by "
            f"{by_board.uncertainty_m * 1e3:.1f} mm."
        )
        return found

    def _robot(self) -> AbstractContextManager[AttendedRobot]:
        return attended_robot(self._config, self._emergency)


def _camera(config: CameraConfig, attended: AttendedRobot) -> Camera:
    """Open a camera whose every picture is watched as the robot's motions are."""
    return attended.watch.watched_camera(open_camera(config, attended.bare))
