"""SwitchedTool: a gripper or suction cup that only knows on and off, on a G-code controller."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_agent.robots.base import GripperModel
from robot_agent.robots.gcode_controller import GcodeController

_OFF, _HOLDS = 0, 2
"""The controller's words: 0 off, 1 at work, 2 holding something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCommands:
    """How one tool is switched and asked."""

    close: str
    open: str
    ask: str


TOOLS = {
    "gripper": ToolCommands(close="M2232 V1", open="M2232 V0", ask="P2232"),
    "pump": ToolCommands(close="M2231 V1", open="M2231 V0", ask="P2231"),
}


class SwitchedTool:
    """Satisfies GripperMotor. It measures no opening: it says open, closed, or holding something,
    and the openings that stand for these are options.
    """

    def __init__(
        self,
        controller: GcodeController,
        commands: ToolCommands,
        *,
        max_opening_m: float,
        held_opening_m: float,
        travel_s: float,
    ) -> None:
        """Take the tool; nothing moves.

        Args:
            controller: the arm's.
            commands: the tool's.
            max_opening_m: said of an open tool.
            held_opening_m: said of one that holds something.
            travel_s: how long it takes to open or close.
        """
        self._controller = controller
        self._commands = commands
        self._max_opening_m = max_opening_m
        self._held_opening_m = held_opening_m
        self._travel_s = travel_s

    @property
    def model(self) -> GripperModel:
        """A small parallel gripper; of a suction cup it is the outside."""
        return GripperModel(
            max_opening_m=self._max_opening_m,
            body_boxes=np.array([[[-0.020, -0.040, 0.045], [0.020, 0.040, 0.100]]]),
            finger_box=np.array([[-0.008, 0.0, 0.0], [0.008, 0.010, 0.045]]),
        )

    def open_fully(self) -> float:
        """Open; return the opening that stands for it, metres."""
        self._controller.switch(self._commands.open)
        self._controller.wait(self._travel_s)
        return self.opening_m()

    def close(self) -> float:
        """Close; return the opening that stands for what was found, metres. It goes on gripping."""
        self._controller.switch(self._commands.close)
        self._controller.wait(self._travel_s)
        return self.opening_m()

    def opening_m(self) -> float:
        """Ask for the tool's state; return the opening that stands for it, metres."""
        state = self._controller.value(self._commands.ask)
        if state == _OFF:
            return self._max_opening_m
        return self._held_opening_m if state == _HOLDS else 0.0

    def hold(self) -> None:
        """Nothing to do: it stays as it is, and its force cannot be set."""

    def disconnect(self) -> None:
        """Nothing to do: the port is the arm's."""
