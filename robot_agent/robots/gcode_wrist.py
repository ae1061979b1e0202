"""GcodeWrist: the servo that turns the hand, led no faster than a joint may turn."""

from __future__ import annotations

import math

from protocol.errors import PoseUnknownError
from robot_agent.robots.gcode_controller import GcodeController

CYCLE_S = 0.05
TRAVEL_S = 1.0
"""A hobby servo takes at most so long for its whole turn."""


class GcodeWrist:
    """A hobby servo knows no speed, so its goal is moved in steps. Nothing measures its angle.

    Where the board cannot tell what it was told last, nobody knows its angle until it is turned for
    the first time since the board started: that turn is as fast as the servo can.
    """

    def __init__(self, controller: GcodeController, *, name: str, max_speed_rad_s: float) -> None:
        """Take the servo; nothing moves. Args: ``name`` is the robot's."""
        self._controller = controller
        self._name = name
        self._step_deg = math.degrees(max_speed_rad_s) * CYCLE_S
        self._told_deg: float | None = None
        self._told_life = -1

    @property
    def degrees(self) -> float:
        """What it was told last.

        Raises:
            PoseUnknownError: nobody knows.
            RobotError: the controller does not answer.
        """
        told_deg = self._last_told()
        if told_deg is None:
            raise PoseUnknownError(
                f"{self._name}: how far the wrist is turned nobody knows before its first turn"
            )
        return told_deg

    def turn_to(self, goal_deg: float) -> None:
        """Turn it, 0 to 180 degrees. Raises RobotError: refused, stopped, or no answer."""
        told_deg = self._last_told()
        if told_deg is None:
            self._tell(goal_deg)
            self._controller.wait(TRAVEL_S)
            return
        while told_deg != goal_deg:
            left_deg = goal_deg - told_deg
            is_last = abs(left_deg) <= self._step_deg
            told_deg = goal_deg if is_last else told_deg + math.copysign(self._step_deg, left_deg)
            self._tell(told_deg)
            self._controller.wait(CYCLE_S)

    def _tell(self, degrees: float) -> None:
        self._controller.turn_wrist(degrees)
        self._told_deg = degrees

    def _last_told(self) -> float | None:
        """Return what it was told in this life of the board, or what the board says of that."""
        if self._told_life != self._controller.life:
            self._told_deg = self._controller.wrist_deg()
            self._told_life = self._controller.life
        return self._told_deg
