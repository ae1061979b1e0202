"""The nouns of a grasp attempt: observation, action, step, outcome, episode.

Frames and units: positions in metres in the robot's base frame (x forward, y left,
z up, z = 0 on the bin's floor), yaw in radians about z, openings in metres between the
finger tips, times in UTC nanoseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

ImageArray = NDArray[np.uint8]
"""uint8[H, W, 3], RGB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GripperPose:
    """Pose of the point midway between the opened finger tips, base frame.

    At ``yaw_rad`` = 0 the fingers close along the base frame's y axis; a parallel jaw looks
    the same after half a turn, so yaw is meaningful modulo pi.
    """

    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float

    def as_array(self) -> NDArray[np.float32]:
        """Return float32[4]: x, y, z (metres), yaw (radians)."""
        return np.array([self.x_m, self.y_m, self.z_m, self.yaw_rad], np.float32)

    def moved_by(self, action: Action) -> GripperPose:
        """Return the pose that ``action`` leads to from here."""
        return GripperPose(
            x_m=self.x_m + action.dx_m,
            y_m=self.y_m + action.dy_m,
            z_m=self.z_m + action.dz_m,
            yaw_rad=self.yaw_rad + action.rotation_rad,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """A motor command: a displacement of the gripper pose in the base frame.

    The wrist rotation is kept as its sine and cosine (Levine et al. 2016, section IV-A).
    """

    dx_m: float
    dy_m: float
    dz_m: float
    sin_yaw: float
    cos_yaw: float

    @property
    def rotation_rad(self) -> float:
        """Wrist rotation in (-pi, pi]."""
        return math.atan2(self.sin_yaw, self.cos_yaw)

    @classmethod
    def between(cls, start: GripperPose, end: GripperPose) -> Action:
        """Return the action that leads from ``start`` to ``end``."""
        turn = end.yaw_rad - start.yaw_rad
        return cls(
            dx_m=end.x_m - start.x_m,
            dy_m=end.y_m - start.y_m,
            dz_m=end.z_m - start.z_m,
            sin_yaw=math.sin(turn),
            cos_yaw=math.cos(turn),
        )

    def as_array(self) -> NDArray[np.float32]:
        """Return float32[5]: dx, dy, dz (metres), sin, cos of the wrist rotation."""
        return np.array([self.dx_m, self.dy_m, self.dz_m, self.sin_yaw, self.cos_yaw], np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What the robot saw and where its hand was when it saw it."""

    image: ImageArray
    """uint8[H, W, 3], RGB."""
    pose: GripperPose
    """Measured, not commanded."""
    opening_m: float
    captured_at_ns: int


class StepKind(StrEnum):
    """What a servoing decision did."""

    MOVE = "move"
    LIFT = "lift"
    CLOSE = "close"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One decision of an attempt: what was seen, wished, commanded and reached."""

    kind: StepKind
    observation: Observation
    wished: Action
    """What the search (or the random policy) asked for."""
    commanded: Action
    """What was sent to the robot after safety clamped it; training uses this one."""
    reached: Action
    """Displacement measured after the motion ended; zero for a closing step, which has none."""
    predicted_best: float | None
    """Predicted success of the best motion that the search found; None when no network decided.
    That motion is what was wished, but for exploration noise, a lift, or closing instead."""
    predicted_stay: float | None
    """Predicted success of closing without moving; None when no network decided."""
    decision_ms: float
    """Wall time of the search; 0 when no network decided."""


class Mode(StrEnum):
    """How an attempt chose its commands."""

    RANDOM = "random"
    EXPLORE = "explore"
    GREEDY = "greedy"


class Label(StrEnum):
    """The attempt's own verdict on itself."""

    SUCCESS = "success"
    FAILURE = "failure"
    ABORTED = "aborted"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceOutcome:
    """What an instrument independent of robot and label says; never used in training.

    The simulator fills it from its own state; a lab may fill it from a scale under the bin.
    """

    success: bool
    object_kind: str
    """Kind of the object held, or of the one nearest to the closed fingers; "" if unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GraspOutcome:
    """How the attempt ended, by both of the robot's own tests (Levine et al. 2016, IV-C)."""

    label: Label
    """From the gripper opening; the drop test is recorded beside it."""
    opening_after_close_m: float
    opening_after_lift_m: float
    """Out of view; the smaller of two readings where the first says held."""
    opening_says_held: bool
    drop_test_says_held: bool
    drop_test_score: float
    """Fraction of bin pixels that changed when the gripper opened out of view, 0 to 1."""
    abort_reason: str = ""
    """Why the attempt was aborted; "" unless ``label`` is ABORTED."""
    reference: ReferenceOutcome | None = None

    @property
    def tests_disagree(self) -> bool:
        """True when gripper opening and drop test contradict each other."""
        return self.label != Label.ABORTED and self.opening_says_held != self.drop_test_says_held


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyIdentity:
    """Which policy made an attempt."""

    release_version: int
    """The release in use, also where an attempt was random; 0 before the first one."""
    digest: str
    """sha256 hex over weights, preprocessing, hand-eye map and search settings; for a random
    attempt protocol.release.RANDOM_POLICY_DIGEST."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """One finished grasp attempt. The record's key (spool, sequence) belongs to the outbox."""

    episode_id: str
    """32 hex digits, random."""
    robot_id: str
    """What the robot calls itself; the learner trusts only the authenticated key."""
    task: str
    mode: Mode
    policy: PolicyIdentity
    started_at_ns: int
    finished_at_ns: int
    first_image: ImageArray
    """The bin without the gripper, uint8[H, W, 3], RGB."""
    last_image: ImageArray
    """The bin after the gripper opened out of view, uint8[H, W, 3], RGB."""
    calibration: NDArray[np.float32]
    """float32[3, 4]: the map the robot found by its own motion; see HandEyeMap."""
    hand_eye_map: NDArray[np.float32]
    """float32[3, 4]: the map the policy used: the calibration, or the learner's refinement."""
    steps: tuple[Step, ...]
    """At least one unless aborted; the last one is the closing step."""
    outcome: GraspOutcome

    @property
    def final_pose(self) -> GripperPose:
        """The commanded pose at which the gripper closed (label it with this one, because a
        descent that was blocked would otherwise never appear as a negative).
        """
        last = self.steps[-1]
        return last.observation.pose.moved_by(last.commanded)
