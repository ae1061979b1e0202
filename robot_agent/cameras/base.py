"""The Camera protocol: one still camera that looks into the bin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from protocol.episode import ImageArray
from robot_agent.robots.base import Robot


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One picture and when its exposure ended."""

    image: ImageArray
    """uint8[H, W, 3], RGB."""
    captured_at_ns: int
    """UTC, for the record: this clock may be set back."""
    exposed_ns: int
    """Nanoseconds of the monotonic clock, which tell what is newer."""


class Camera(Protocol):
    """One camera. ``robot.toml`` names the driver as ``module:Class``."""

    @classmethod
    def open(
        cls, options: Mapping[str, Any], *, width_px: int, height_px: int, robot: Robot
    ) -> Self:
        """Connect. A simulated camera looks at ``robot``'s scene; a real one ignores it.

        Raises:
            ConfigurationError: an option is unknown or the size cannot be had.
            CameraError: no camera answers.
        """
        ...

    def capture(self) -> Frame:
        """Return a picture exposed after this call began.

        Raises:
            CameraError: no picture in time, or one of another size than asked for.
        """
        ...

    def close(self) -> None:
        """Disconnect. May be called twice."""
        ...
