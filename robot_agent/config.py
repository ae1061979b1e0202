"""``robot.toml``: one frozen dataclass tree, checked when it is read."""

from __future__ import annotations

import math
import stat
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from protocol.configuration import Fraction, NonNegativeInt, PictureSide, PositiveInt, Seed, Share
from protocol.endpoint import is_endpoint
from protocol.errors import ConfigurationError
from protocol.limits import MAX_GATEWAYS
from protocol.messages import Name, Text

FARTHEST_CAMERA_M = 5.0
FARTHEST_WORKSPACE_M = 3.0
"""From the origin of the base frame, along each axis: what is beyond was not written in metres."""


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

    width_px: PictureSide = 64
    height_px: PictureSide = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraDescription:
    """A rough guess of the camera, by eye; the start of the robot's own search for its map."""

    position_m: tuple[float, float, float]
    look_at_m: tuple[float, float, float]
    vertical_fov_deg: Annotated[float, msgspec.Meta(gt=0, lt=170)]

    def __post_init__(self) -> None:
        for name in ("position_m", "look_at_m"):
            place = getattr(self, name)
            if not all(abs(value) <= FARTHEST_CAMERA_M for value in place):
                raise ConfigurationError(
                    f"camera_description.{name}: {place} is not within {FARTHEST_CAMERA_M:g} m of "
                    "the origin; is it in metres?"
                )
        if self.position_m == self.look_at_m:
            raise ConfigurationError(
                f"camera_description: position_m and look_at_m are the same place, {self.look_at_m}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkspaceConfig:
    """Limits of every commanded pose, base frame."""

    x_m: tuple[float, float]
    y_m: tuple[float, float]
    z_m: tuple[float, float]
    """Lowest and highest finger-tip height."""
    max_step_m: Annotated[float, msgspec.Meta(gt=0, le=2 * FARTHEST_WORKSPACE_M)] = 0.5
    """Longest displacement of one servoing motion; a longer one is shortened along its line. The
    transports around it (to the start, out of view, to the drop) may be longer."""

    def __post_init__(self) -> None:
        for name in ("x_m", "y_m", "z_m"):
            low, high = getattr(self, name)
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ConfigurationError(f"workspace.{name}: {low} to {high} is not finite")
            if not low < high:
                raise ConfigurationError(f"workspace.{name}: {low} is not below {high}")
            if max(-low, high) > FARTHEST_WORKSPACE_M:
                raise ConfigurationError(
                    f"workspace.{name}: {low} to {high} is not within {FARTHEST_WORKSPACE_M:g} m "
                    "of the origin; is it in metres?"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class SafetyConfig:
    """What no motion may exceed, and when a robot is stopped. Kept by the drivers of real arms.

    The defaults suit a small table-top arm with people around it. What no such arm should do is
    refused, whatever is written.
    """

    max_speed_m_s: Annotated[float, msgspec.Meta(gt=0, le=2)] = 0.25
    """Of the finger tips along their line."""
    max_acceleration_m_s2: Annotated[float, msgspec.Meta(gt=0, le=20)] = 1.0
    """Of the finger tips along their line."""
    max_joint_speed_rad_s: Annotated[float, msgspec.Meta(gt=0, le=10)] = 2.0
    """Of each joint; a faster motion is made slower as a whole."""
    max_joint_acceleration_rad_s2: Annotated[float, msgspec.Meta(gt=0, le=100)] = 8.0
    """Of each joint."""
    max_torque: Share = 0.7
    """Of each motor of the arm, as a share of what it can do."""
    max_grip: Share = 0.5
    """Of the gripper's motor, as a share of what it can do."""
    hold_torque: Annotated[float, msgspec.Meta(ge=0.1, le=1)] = 0.4
    """With which an arm holds still after a stop: enough not to drop onto the table, and not more
    than ``max_torque``."""
    max_temperature_c: Annotated[float, msgspec.Meta(ge=30, le=90)] = 60.0
    """Of any motor; a hotter one is a safety fault."""
    stall_s: Annotated[float, msgspec.Meta(ge=0.5, le=60)] = 5.0
    """An agent that gives no sign of life for so long, while its robot is at work, is ended and the
    arm held still."""

    def __post_init__(self) -> None:
        for one in fields(self):
            if math.isnan(getattr(self, one.name)):
                raise ConfigurationError(f"safety.{one.name}: nan is no limit")
        if self.hold_torque > self.max_torque:
            raise ConfigurationError(
                f"safety.hold_torque: {self.hold_torque:g} is more than max_torque, "
                f"{self.max_torque:g}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerEndpointConfig:
    """Where the learner is, and how to know that it is the right one."""

    episodes: str | tuple[str, ...]
    """``tcp://host:port`` of the gateway. Of several: a list, or one that tells of the others."""
    releases: str
    """``tcp://host:port`` of the release server."""
    public_key: Path
    """The learner's CURVE public key."""
    release_key: Path
    """The Ed25519 public key that releases are signed with."""

    def __post_init__(self) -> None:
        if not self.gateways:
            raise ConfigurationError("learner.episodes: names no gateway")
        if len(self.gateways) > MAX_GATEWAYS:
            raise ConfigurationError(
                f"learner.episodes: {len(self.gateways)} gateways exceed the {MAX_GATEWAYS} of one "
                "fleet"
            )
        named = [("episodes", one) for one in self.gateways] + [("releases", self.releases)]
        for name, endpoint in named:
            if not is_endpoint(endpoint):
                raise ConfigurationError(
                    f"learner.{name}: {endpoint!r} is not of the form 'tcp://host:port'"
                )

    @property
    def gateways(self) -> tuple[str, ...]:
        """The gateways to begin with."""
        return (self.episodes,) if isinstance(self.episodes, str) else self.episodes


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxConfig:
    """The spool of finished episodes on the robot's disk."""

    max_bytes: PositiveInt = 2_000_000_000
    """Of all records; at most a quarter of it goes to those that the learner refused."""
    when_full: Literal["stop", "drop-oldest"] = "stop"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig:
    """How an attempt judges itself."""

    min_opening_m: Annotated[float, msgspec.Meta(gt=0, le=0.2)] = 0.004
    """An opening above this, measured from the gripper's closed zero, means something is held."""
    min_changed_fraction: Fraction = 0.004
    """Drop test: fraction of bin pixels that must change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsConfig:
    """The agent's own metrics, for a Prometheus that can reach the robot (see docs/metrics.md).

    The learner exports what matters of every robot anyway.
    """

    bind: str = ""
    """``host:port`` for HTTP, such as 0.0.0.0:9109; "" for nowhere."""

    def __post_init__(self) -> None:
        if self.bind and not is_endpoint(f"tcp://{self.bind}"):
            raise ConfigurationError(f"metrics.bind {self.bind!r} is not of the form 'host:port'")


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentConfig:
    """One robot."""

    name: Name
    """What the robot calls itself; the learner goes by its key."""
    task: Text = "bin-picking"
    state_folder: Path
    """Outbox, last good release and calibration live here."""
    secret_key: Path
    """The robot's CURVE secret key, mode 0600."""
    seed: Seed = 0
    robot: DriverConfig
    camera: CameraConfig
    workspace: WorkspaceConfig
    safety: SafetyConfig = SafetyConfig()
    camera_description: CameraDescription
    learner: LearnerEndpointConfig
    outbox: OutboxConfig = OutboxConfig()
    label: LabelConfig = LabelConfig()
    metrics: MetricsConfig = MetricsConfig()
    max_attempts: NonNegativeInt = 0
    """Stop after this many attempts; 0 means go on until told to stop."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __post_init__(self) -> None:
        timeout_s = self.camera.options.get("timeout_s", 0.0)
        if isinstance(timeout_s, int | float) and timeout_s >= self.safety.stall_s:
            raise ConfigurationError(
                f"camera.options.timeout_s: {timeout_s:g} s is not below safety.stall_s, "
                f"{self.safety.stall_s:g} s: an agent that waits for a picture would be taken for "
                "one that hangs, and be ended"
            )
        _refuse_file(self.state_folder)


def _refuse_file(folder: Path) -> None:
    """Refuse a state folder that is none: it would keep no stop, and none would be found there."""
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except FileNotFoundError:
        return  # made when something is kept in it
    except NotADirectoryError:
        is_folder = False
    except OSError:
        return  # a folder that cannot be looked at counts as a stop
    if not is_folder:
        raise ConfigurationError(f"state_folder {folder} cannot be written: Not a directory")
