"""A drawn robot that writes down whatever moves it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from protocol.episode import GripperPose
from robot_agent.robots.base import RobotSite, RobotState
from tests.robot_agent.drawn_robot import DrawnRobot

MOTIONS = "motions.log"


class RecordedRobot(DrawnRobot):
    """Unfolds when it is opened, as many arms do."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self._log = log
        self._note("unfold")

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite | None = None) -> Self:
        """Take no options; the log is in the state folder."""
        assert site is not None
        return cls(site.state_folder / MOTIONS)

    def move_to(self, pose: GripperPose) -> RobotState:
        """Note it, and be there."""
        self._note("move")
        return super().move_to(pose)

    def open_gripper(self) -> float:
        """Note it, and open."""
        self._note("open")
        return super().open_gripper()

    def close_gripper(self) -> float:
        """Note it, and close."""
        self._note("close")
        return super().close_gripper()

    def _note(self, motion: str) -> None:
        with self._log.open("a") as log:
            log.write(f"{motion}\n")
