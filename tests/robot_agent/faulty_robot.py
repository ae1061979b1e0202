"""A robot driver that fails on purpose: ``tests.robot_agent.faulty_robot:FaultyRobot``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

from protocol.episode import GripperPose
from protocol.errors import RobotError, SafetyFault
from robot_agent.robots.base import RobotState
from robot_agent.robots.simulated import SimulatedRobot

Fault = Literal["robot-error", "stuck", "safety-fault", "nan-pose"]
"""``stuck`` is a robot error after which the hand cannot leave at the first try."""


class FaultyRobot(SimulatedRobot):
    """A simulated robot whose n-th motion from now fails, once."""

    motions_left = math.inf
    fault: Fault = "robot-error"
    reads_nan = False
    is_stuck = False

    @classmethod
    def open(cls, options: Mapping[str, Any]) -> Self:
        """Options of the simulated robot, and ``fail_at`` and ``fault``."""
        rest = {key: value for key, value in options.items() if key not in ("fail_at", "fault")}
        robot = super().open(rest)
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
            self.is_stuck = self.fault == "stuck"
            raise RobotError("servo 3 does not answer")
        self.reads_nan = True
        return self.state()

    def state(self) -> RobotState:
        state = super().state()
        if not self.reads_nan:
            return state
        self.reads_nan = False
        return replace(state, pose=replace(state.pose, x_m=math.nan))

    def retreat(self) -> RobotState:
        if self.is_stuck:
            self.is_stuck = False
            raise RobotError("the arm is blocked")
        return super().retreat()
