"""GcodeWrist: the servo that turns the hand, led no faster than a joint may turn."""

from __future__ import annotations

import math

from robot_agent.robots.gcode_controller import GcodeController
from robot_agent.robots.gcode_reach import WRIST_CENTRE_DEG

CYCLE_S = 0.05


class GcodeWrist:
    """A hobby servo knows no speed, so its goal is moved in steps. Nothing measures its angle."""

    def __init__(self, controller: GcodeController, *, max_speed_rad_s: float) -> None:
        """Ask where it is; nothing moves. Raises RobotError if the controller does not answer."""
        self._controller = controller
        self._step_deg = math.degrees(max_speed_rad_s) * CYCLE_S
        told_deg = controller.wrist_deg()
        self.degrees = WRIST_CENTRE_DEG if told_deg is None else told_deg
        """What it was told last; the middle of its turn where nobody knows."""

    def turn_to(self, goal_deg: float) -> None:
        """Turn it, 0 to 180 degrees. Raises RobotError: refused, stopped, or no answer."""
        while self.degrees != goal_deg:
            left_deg = goal_deg - self.degrees
            next_deg = goal_deg
            if abs(left_deg) > self._step_deg:
                next_deg = self.degrees + math.copysign(self._step_deg, left_deg)
            self._controller.turn_wrist(next_deg)
            self.degrees = next_deg
            self._controller.wait(CYCLE_S)
