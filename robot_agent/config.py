"""``robot.toml``: one frozen dataclass tree, checked when it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from protocol.configuration import Fraction, NonNegativeInt, PositiveFloat, PositiveInt
from protocol.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class DriverConfig:
    """Which class to load, and the options it is opened with."""

    driver: str
    """``module:Class``."""
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        module, _, name = self.driver.partition(":")
        if not module or not name.isidentifier():
            raise ConfigurationError(f"driver {self.driver!r}: expected 'module:Class'")


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraConfig(DriverConfig):
    """The camera that looks into the bin."""

    width_px: PositiveInt = 64
    height_px: PositiveInt = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraDescription:
    """A rough guess of the camera, by eye; the start of the robot's own search for its map."""

    position_m: tuple[float, float, float]
    look_at_m: tuple[float, float, float]
    vertical_fov_deg: PositiveFloat


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkspaceConfig:
    """Limits of every commanded pose, base frame."""

    x_m: tuple[float, float]
    y_m: tuple[float, float]
    z_m: tuple[float, float]
    """Lowest and highest finger-tip height."""
    max_step_m: PositiveFloat = 0.5
    """Longest single displacement; longer commands are shortened along their line."""

    def __post_init__(self) -> None:
        for name in ("x_m", "y_m", "z_m"):
            low, high = getattr(self, name)
            if not low < high:
                raise ConfigurationError(f"workspace.{name}: {low} is not below {high}")


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerEndpointConfig:
    """Where the learner is, and how to know that it is the right one."""

    episodes: str
    """``tcp://host:port`` of the gateway."""
    releases: str
    """``tcp://host:port`` of the release server."""
    public_key: Path
    """The learner's CURVE public key."""
    release_key: Path
    """The Ed25519 public key that releases are signed with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxConfig:
    """The spool of finished episodes on the robot's disk."""

    max_bytes: PositiveInt = 2_000_000_000
    when_full: Literal["stop", "drop-oldest"] = "stop"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig:
    """How an attempt judges itself."""

    min_opening_m: PositiveFloat = 0.004
    """An opening above this, measured from the gripper's closed zero, means something is held."""
    min_changed_fraction: Fraction = 0.004
    """Drop test: fraction of bin pixels that must change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentConfig:
    """One robot."""

    name: str
    """What the robot calls itself; the learner goes by its key."""
    task: str = "bin-picking"
    state_folder: Path
    """Outbox, last good release and calibration live here."""
    secret_key: Path
    """The robot's CURVE secret key, mode 0600."""
    seed: NonNegativeInt = 0
    robot: DriverConfig
    camera: CameraConfig
    workspace: WorkspaceConfig
    camera_description: CameraDescription
    learner: LearnerEndpointConfig
    outbox: OutboxConfig = OutboxConfig()
    label: LabelConfig = LabelConfig()
    max_attempts: NonNegativeInt = 0
    """Stop after this many attempts; 0 means go on until told to stop."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
