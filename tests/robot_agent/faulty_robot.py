"""A robot driver that fails on purpose: ``tests.robot_agent.faulty_robot:FaultyRobot``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, RobotError, SafetyFault
from robot_agent.robots.base import RobotSite, RobotState
from robot_agent.robots.simulated import SimulatedRobot

Fault = Literal["robot-error", "stuck", "safety-fault", "nan-pose"]
OWN_OPTIONS = ("fail_at", "fault", "fails_to_close", "misreads_opening")
"""``stuck`` is a robot error after which the hand cannot leave at the first try."""


class FaultyRobot(SimulatedRobot):
    """A simulated robot whose n-th motion from now fails, once."""

    motions_left = math.inf
    fault: Fault = "robot-error"
    reads_nan = False
    fails_to_close = False
    misreads_opening = 0
    """Which reading of its state in the bin gives an opening out of all range; 0 for none."""
    retreat_error: RobotError | None = None
    """What the next retreat raises."""
    stops = 0

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite | None = None) -> Self:
        """Options of the simulated robot, and OWN_OPTIONS."""
        rest = {key: value for key, value in options.items() if key not in OWN_OPTIONS}
        robot = super().open(rest, site)
        robot.fails_to_close = options.get("fails_to_close", False)
        robot.misreads_opening = options.get("misreads_opening", 0)
        if "fail_at" in options:
            robot.fail_at(options["fail_at"], options.get("fault", "robot-error"))
        return robot

    def fail_at(self, motion: int, fault: Fault = "robot-error") -> None:
        """Let the ``motion``-th call of move_to from now fail; the first is number 1."""
        self.motions_left, self.fault = motion, fault

    def move_to(self, pose: GripperPose) -> RobotState:
        self.motions_left -= 1
        if self.motions_left != 0:
            return super().move_to(pose)
        if self.fault == "safety-fault":
            raise SafetyFault("emergency stop pressed")
        if self.fault in ("robot-error", "stuck"):
            if self.fault == "stuck":
                self.retreat_error = RobotError("the arm is blocked")
            raise RobotError("servo 3 does not answer")
        self.reads_nan = True
        return self.state()

    def state(self) -> RobotState:
        state = super().state()
        if self.misreads_opening and state.pose.z_m < 0.2:
            self.misreads_opening -= 1
            if self.misreads_opening == 0:
                return replace(state, opening_m=1e9)
        if not self.reads_nan:
            return state
        self.reads_nan = False
        return replace(state, pose=replace(state.pose, x_m=math.nan))

    def retreat(self) -> RobotState:
        if self.retreat_error is not None:
            error, self.retreat_error = self.retreat_error, None
            raise error
        return super().retreat()

    def stop(self) -> None:
        self.stops += 1
        super().stop()

    def close(self) -> None:
        super().close()
        if self.fails_to_close:
            raise RobotError("the controller has hung up")


class FeverlessRobot(FaultyRobot):
    """Its thermometer fails: as one whose port is taken, or in a way that nobody foresaw."""

    is_foreseen = True

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite | None = None) -> Self:
        robot = super().open({k: v for k, v in options.items() if k != "is_foreseen"}, site)
        robot.is_foreseen = options["is_foreseen"]
        return robot

    def temperature_c(self) -> float:
        if self.is_foreseen:
            raise ConfigurationError("another process has this port")
        raise RuntimeError("nobody foresaw this")
