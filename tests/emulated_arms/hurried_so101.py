"""An SO-101 for emulated servos whose time passes faster than the agent's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

from robot_agent.arms.clock import Clock
from robot_agent.robots.base import RobotSite
from robot_agent.robots.so101 import SO101

PACE = 4.0


class HurriedSO101(SO101):
    """Its motions take a fourth of their time; what holds it still is the driver's own."""

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite, clock: Clock | None = None) -> Self:
        """See SO101.open."""
        return super().open(options, site, clock or PacedClock())


class PacedClock:
    """Satisfies Clock."""

    def monotonic_s(self) -> float:
        """See Clock."""
        return PACE * time.monotonic()

    def sleep(self, duration_s: float) -> None:
        """See Clock."""
        time.sleep(max(0.0, duration_s) / PACE)
