"""One grasp attempt from the first picture of the bin to the label."""

from __future__ import annotations

import logging
import secrets
import time

import numpy as np

from protocol.episode import (
    Action,
    Episode,
    GraspOutcome,
    GripperPose,
    ImageArray,
    Mode,
    Observation,
    PolicyIdentity,
    ReferenceOutcome,
    Step,
    StepKind,
)
from protocol.errors import (
    CameraError,
    GraspFleetError,
    NonFiniteScoreError,
    RejectedReleaseError,
    RobotError,
    SafetyFault,
)
from protocol.hand_eye import HandEyeMap
from protocol.refusal_log import printable
from robot_agent.attempts.grasp_outcome import aborted, drop_test_score, judge
from robot_agent.cameras.base import Camera, Frame
from robot_agent.config import AgentConfig
from robot_agent.policy.q_function import QFunction
from robot_agent.policy.servoing import Decision, Servo, make_servo
from robot_agent.robots.base import InstrumentedRobot, Robot, RobotState
from robot_agent.safety.workspace import Workspace, held_still_after_a_fault, hold_still

logger = logging.getLogger(__name__)

START_HEIGHTS_M = (0.10, 0.14)
"""Servoing starts at a random pose in this range of heights."""
LIFT_M = 0.12
"""A closed gripper is lifted this far before it leaves."""
DROP_HEIGHT_M = 0.08
"""A held object is let go this far above the bin's floor."""
DROP_MARGIN = 0.3
"""It is let go in the middle of the workspace: this share of each side is left out."""


class EpisodeLoop:
    """Runs attempts on one robot; everything an attempt needs but the policy."""

    def __init__(
        self,
        *,
        config: AgentConfig,
        robot: Robot,
        camera: Camera,
        calibration: HandEyeMap,
        rng: np.random.Generator,
        closed_zero_m: float = 0.0,
    ) -> None:
        self._config = config
        self._robot = robot
        self._camera = camera
        self._calibration = calibration
        self._rng = rng
        self._closed_zero_m = closed_zero_m
        self._workspace = Workspace(config.workspace)
        self._is_in_view = True
        """Whether the hand may hide something of the bin."""
        self._exposed_ns = 0
        self._is_closed = self._is_away = False
        self.abort_error: GraspFleetError | None = None
        """What aborted the last attempt; None when it was finished."""

    def run_attempt(
        self,
        mode: Mode,
        q_function: QFunction | None,
        *,
        max_moves: int,
        policy: PolicyIdentity,
    ) -> Episode:
        """Make one attempt and return it, labelled.

        A robot or camera that fails, or a network that returns NaN or cannot be run, aborts the
        attempt; the episode says why. The hand then leaves, or tries to: if it cannot, the next
        attempt begins with that.

        A safety fault aborts the attempt too, as ``abort_error`` says; the robot was then told to
        hold still, and there must be no next attempt.

        Raises:
            SafetyFault: before the attempt began, or so that it made none.
            CameraError: there is no picture of the bin to begin with.
            RobotError: the bin cannot be made ready, or the hand cannot leave it.
        """
        with held_still_after_a_fault(self._robot):
            return self._run_attempt(mode, q_function, max_moves, policy)

    def _run_attempt(
        self, mode: Mode, q_function: QFunction | None, max_moves: int, policy: PolicyIdentity
    ) -> Episode:
        self.abort_error = None
        started_at_ns = time.time_ns()
        first_image = self._picture_of_the_bin()
        steps: list[Step] = []
        last_image = first_image
        try:
            servo = make_servo(
                mode,
                q_function,
                first_image=first_image,
                workspace=self._workspace,
                rng=self._rng,
                max_moves=max_moves,
            )
            self._servo_until_close(servo, steps)
            outcome, last_image = self._lift_and_judge()
            self._is_in_view = False
        except (RobotError, NonFiniteScoreError, RejectedReleaseError) as error:
            logger.warning("%s: attempt aborted: %s", self._config.name, error)
            self.abort_error = error
            outcome = aborted(printable(str(error))[:500])
            self._return_to_safety()
        return Episode(
            episode_id=secrets.token_hex(16),
            robot_id=self._config.name,
            task=self._config.task,
            mode=Mode.RANDOM if q_function is None else mode,
            policy=policy,
            started_at_ns=started_at_ns,
            finished_at_ns=time.time_ns(),
            first_image=first_image,
            last_image=last_image,
            calibration=self._calibration.matrix,
            hand_eye_map=(q_function.hand_eye_map if q_function else self._calibration).matrix,
            steps=tuple(steps),
            outcome=outcome,
        )

    def _picture_of_the_bin(self) -> ImageArray:
        """Return the bin without the hand, as it is now: since the last attempt somebody may have
        filled it, or switched the light off.
        """
        if self._is_in_view:
            # The last attempt may have left the hand in view, or closed.
            if self._is_closed:
                self._let_go()
            self._robot.retreat()
        self._robot.prepare_attempt()
        return self._capture()

    def _servo_until_close(self, servo: Servo, steps: list[Step]) -> None:
        commanded = self._transport(self._start_pose())
        while True:
            observation = self._observe()
            decision = servo.decide(observation, commanded)
            here = observation.pose
            if decision.kind == StepKind.CLOSE:
                stay = Action.between(here, commanded)
                still = Action.between(here, here)
                steps.append(_step(decision, observation, commanded=stay, reached=still))
                return
            commanded = self._within_reach(self._workspace.clamp_motion(here, decision.wished))
            reached = _finite(self._robot.move_to(commanded)).pose
            steps.append(
                _step(
                    decision,
                    observation,
                    commanded=Action.between(here, commanded),
                    reached=Action.between(here, reached),
                )
            )

    def _lift_and_judge(self) -> tuple[GraspOutcome, ImageArray]:
        """Close, lift, leave, drop; return the outcome and the picture of the bin afterwards."""
        self._is_closed = True
        self._robot.close_gripper()
        closed = _finite(self._robot.state())
        here = closed.pose
        lifted = self._workspace.clamp_motion(here, _at_height(here, here.z_m + LIFT_M))
        self._robot.move_to(self._within_reach(lifted))
        self._is_away = True
        after_lift_m = _finite(self._robot.retreat()).opening_m
        reference = self._reference()
        if self._says_held(after_lift_m):
            # Once more: what slips out of the grip just now was not held.
            after_lift_m = min(after_lift_m, _finite(self._robot.retreat()).opening_m)
        holding = self._capture()
        if self._says_held(after_lift_m):
            self._transport(self._drop_pose())
        self._open_gripper()
        self._robot.retreat()
        dropped = self._capture()
        outcome = judge(
            opening_after_close_m=closed.opening_m,
            opening_after_lift_m=after_lift_m,
            closed_zero_m=self._closed_zero_m,
            changed_fraction=drop_test_score(holding, dropped),
            reference=reference,
            config=self._config.label,
        )
        return outcome, dropped

    def _says_held(self, opening_m: float) -> bool:
        return opening_m - self._closed_zero_m > self._config.label.min_opening_m

    def _return_to_safety(self) -> None:
        """Leave the bin with an open gripper, if the robot can; after a fault, hold still."""
        self._is_in_view = True
        if isinstance(self.abort_error, SafetyFault):
            hold_still(self._robot)
            return
        try:
            self._robot.stop()
            self._let_go()
            self._robot.retreat()
        except SafetyFault as fault:
            hold_still(self._robot)
            self.abort_error = fault
        except RobotError as error:
            logger.warning("%s: the hand cannot leave the bin: %s", self._config.name, error)

    def _let_go(self) -> None:
        """Open the gripper; what it may hold out of view falls back into the bin."""
        if self._is_closed and self._is_away:
            self._transport(self._drop_pose())
        self._open_gripper()

    def _open_gripper(self) -> None:
        self._robot.open_gripper()
        self._is_closed = self._is_away = False

    def _transport(self, pose: GripperPose) -> GripperPose:
        """Move to the nearest pose inside the workspace; return that pose."""
        commanded = self._within_reach(self._workspace.inside(pose))
        self._robot.move_to(commanded)
        return commanded

    def _within_reach(self, pose: GripperPose) -> GripperPose:
        return self._workspace.within_reach(pose, self._robot)

    def _reference(self) -> ReferenceOutcome | None:
        if isinstance(self._robot, InstrumentedRobot):
            return self._robot.reference_outcome()
        return None

    def _observe(self) -> Observation:
        state = _finite(self._robot.state())
        frame = self._new_frame()
        return Observation(
            image=frame.image,
            pose=state.pose,
            opening_m=state.opening_m,
            captured_at_ns=frame.captured_at_ns,
        )

    def _capture(self) -> ImageArray:
        return self._new_frame().image

    def _new_frame(self) -> Frame:
        """Take a picture. Raises CameraError for one that is stale or of another size."""
        frame = self._camera.capture()
        camera, image = self._config.camera, frame.image
        before_ns, self._exposed_ns = self._exposed_ns, frame.exposed_ns
        if frame.exposed_ns <= before_ns:
            raise CameraError(
                f"{self._config.name}: the camera gave a stale picture: exposed "
                f"{(before_ns - frame.exposed_ns) * 1e-9:.3f} s before the last one"
            )
        if image.shape != (camera.height_px, camera.width_px, 3) or image.dtype != np.uint8:
            raise CameraError(
                f"{self._config.name}: camera gave {image.dtype}{list(image.shape)}, robot.toml "
                f"asks for uint8[{camera.height_px}, {camera.width_px}, 3]"
            )
        return frame

    def _start_pose(self) -> GripperPose:
        x, y, _, yaw = self._rng.uniform(self._workspace.low, self._workspace.high)
        z = float(self._rng.uniform(*START_HEIGHTS_M))
        return GripperPose(x_m=float(x), y_m=float(y), z_m=z, yaw_rad=float(yaw))

    def _drop_pose(self) -> GripperPose:
        low, high = self._workspace.low, self._workspace.high
        margin = (high - low) * (DROP_MARGIN / 2)
        x, y, _, yaw = self._rng.uniform(low + margin, high - margin)
        return GripperPose(x_m=float(x), y_m=float(y), z_m=DROP_HEIGHT_M, yaw_rad=float(yaw))


def _step(
    decision: Decision, observation: Observation, *, commanded: Action, reached: Action
) -> Step:
    return Step(
        kind=decision.kind,
        observation=observation,
        wished=Action.between(observation.pose, decision.wished),
        commanded=commanded,
        reached=reached,
        predicted_best=decision.predicted_best,
        predicted_stay=decision.predicted_stay,
        decision_ms=decision.decision_ms,
    )


def _finite(state: RobotState) -> RobotState:
    """Return ``state``. Raises RobotError if a measured value is NaN or infinite."""
    if not np.isfinite([*state.pose.as_array(), state.opening_m]).all():
        raise RobotError(
            f"the robot's measured state is not finite: {state.pose}, opening {state.opening_m} m"
        )
    return state


def _at_height(pose: GripperPose, z_m: float) -> GripperPose:
    return GripperPose(x_m=pose.x_m, y_m=pose.y_m, z_m=z_m, yaw_rad=pose.yaw_rad)
