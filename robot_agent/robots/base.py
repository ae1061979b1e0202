"""The Robot protocol: what the agent asks of a gripper robot, and nothing more.

A driver is any class that satisfies it; ``robot.toml`` names it as ``module:Class``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose, ReferenceOutcome
from robot_agent.config import SafetyConfig
from robot_agent.robots.check_result import CheckResult

if TYPE_CHECKING:
    # A robot without a wire needs no serial ports.
    from robot_agent.serial_bus.port import BusCounters


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotState:
    """Measured state of hand and gripper."""

    pose: GripperPose
    opening_m: float
    measured_at_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GripperModel:
    """What a gripper's data sheet says of its outside: enough to recognise it in a picture."""

    max_opening_m: float
    body_boxes: NDArray[np.float64]
    """float64[K, 2, 3]: per box its lower and upper corner in the gripper frame (origin in the
    middle between the opened finger tips, z up along the hand, y the closing direction), metres:
    palm and what is above it."""
    finger_box: NDArray[np.float64]
    """float64[2, 3]: lower and upper corner of the finger on the +y side, where the gripper is
    closed at the origin; the other finger is its mirror image in y."""
    still_finger_y_m: float | None = None
    """Where the inner side of the finger on the -y side stands if it does not move: the other one
    then moves by the whole opening. None: each moves by half of it."""

    def boxes(self, opening_m: float) -> NDArray[np.float64]:
        """Return float64[K + 2, 2, 3]: body and fingers at ``opening_m``, gripper frame."""
        still_m = self.still_finger_y_m
        middle_m = 0.0 if still_m is None else still_m + opening_m / 2
        left = self.finger_box + np.array([0.0, opening_m / 2, 0.0])
        right = left * np.array([1.0, -1.0, 1.0])
        fingers = np.stack([left, np.stack([right.min(axis=0), right.max(axis=0)])])
        return np.concatenate([self.body_boxes, fingers + np.array([0.0, middle_m, 0.0])])


def unwatched() -> None:
    """Take a sign of life that nobody waits for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotSite:
    """What a driver is told besides its own options."""

    name: str
    """The robot's name, for what is said of it."""
    state_folder: Path
    """Where the driver keeps what it must know again, such as what ``calibrate`` measured."""
    safety: SafetyConfig
    """Limits of every motion."""
    beat: Callable[[], None] = unwatched
    """To be called at least once a second while a motion goes on, such as in each cycle of its
    control loop: it costs microseconds. Without it the agent is taken for stalled, and ended, when
    one call lasts longer than ``safety.stall_s``. Raises SafetyFault when the robot was stopped:
    the motion then ends by that."""


class Robot(Protocol):
    """One gripper robot. Every motion blocks until it ended, stalled or timed out.

    Motions raise RobotError when the attempt must be aborted, SafetyFault when only a person may
    resume. Poses are in the base frame (see protocol.episode).
    """

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite) -> Self:
        """Connect to the robot; nothing moves yet.

        Raises:
            ConfigurationError: an option is unknown or unusable, or its port is in use.
            RobotError: the robot does not answer.
        """
        ...

    @property
    def gripper(self) -> GripperModel:
        """The gripper's data sheet."""
        ...

    def state(self) -> RobotState:
        """Measure pose and opening now."""
        ...

    def move_to(self, pose: GripperPose) -> RobotState:
        """Move in a straight line to ``pose``; return where the hand ended, also if blocked.

        It may leave the line where the arm cannot follow it; the finger tips then stay above the
        lower of both ends.
        """
        ...

    def open_gripper(self) -> float:
        """Open fully; return the measured opening in metres."""
        ...

    def close_gripper(self) -> float:
        """Close until the fingers stop; return the measured opening in metres."""
        ...

    def retreat(self) -> RobotState:
        """Move hand and arm out of the camera's view of the bin, keeping the gripper as it is.

        What the gripper reads afterwards becomes the label: return when its fingers are still, so
        that an object that is just slipping out is not taken for one that is held.
        """
        ...

    def prepare_attempt(self) -> bool:
        """Make the bin ready for an attempt; the hand is out of view. True if the bin changed
        (refilled, objects put back), so that pictures taken before no longer hold.
        """
        ...

    def stop(self) -> None:
        """Hold still, from any state, at once.

        Any thread may call this, also while another one is in a motion, as an emergency stop does:
        that motion ends as soon as it can, by returning or by raising RobotError, and does not move
        the robot again. The next motion that is asked for is made.
        """
        ...

    def close(self) -> None:
        """Bring the robot to its safe state and disconnect. May be called twice.

        After a SafetyFault it must not move: holding still is then the safe state.

        Raises:
            RobotError: it may not be in its safe state; who guards it must see to that. It is
                disconnected all the same.
        """
        ...


@runtime_checkable
class ReachLimitedRobot(Protocol):
    """A robot that cannot be everywhere in its workspace."""

    def nearest_reachable(self, pose: GripperPose) -> GripperPose:
        """Return ``pose`` where it can be had, else a pose near it that can; nothing moves."""
        ...


@runtime_checkable
class TurningRobot(Protocol):
    """A robot that may carry out a pose with its hand half a turn further, and knows when."""

    def hand_yaw_rad(self) -> float:
        """Measure the hand's own yaw now: the one that its data sheet's boxes are turned by."""
        ...


@runtime_checkable
class GuardedRobot(Protocol):
    """A robot whose motors go on without its agent, and must be stopped when that is gone."""

    @classmethod
    def hold(cls, options: Mapping[str, Any], site: RobotSite) -> None:
        """Hold still with limited torque where the arm is. Called by another process than the
        agent's, which has ended; must need nothing that the agent knew.

        Raises:
            RobotError: the robot does not answer.
        """
        ...


@runtime_checkable
class ThermometerRobot(Protocol):
    """A robot that knows how warm its motors are."""

    def temperature_c(self) -> float:
        """Return the temperature of the hottest part, degrees Celsius. Called between attempts.

        Raises:
            RobotError: it does not answer.
        """
        ...


@runtime_checkable
class WiredRobot(Protocol):
    """A robot that counts what happens on its wire: a plug that works loose shows there first."""

    def bus_counters(self) -> BusCounters:
        """Return the counters as they are now. Any thread may call this; it asks nobody."""
        ...


@runtime_checkable
class SelfCheckingRobot(Protocol):
    """A robot that can look at its own parts, for ``robot-agent check``."""

    def checks(self) -> Iterable[CheckResult]:
        """Look at one part after the other: each motor's answer, firmware, voltage, temperature.

        Nothing moves. What does not answer is a result, not an error; the other parts are looked at
        all the same. Every result but a good one says what to do.
        """
        ...


@runtime_checkable
class InstrumentedRobot(Protocol):
    """A robot with an independent instrument that knows whether an object is held."""

    def reference_outcome(self) -> ReferenceOutcome:
        """Say what is held now. Called after the lift, before the gripper opens."""
        ...
