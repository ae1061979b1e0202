"""How the motors' readings become the joints of the arm's model: what ``calibrate`` measured."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from protocol.errors import ConfigurationError
from protocol.key_files import PUBLIC_MODE, sync_folder, write_over
from protocol.messages import Name
from robot_agent.arms.servo_identity import ServoIdentity

FILE = "joint_calibration.json"

_Angle = Annotated[float, msgspec.Meta(ge=-64.0, le=64.0)]


class JointScale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One joint: joint angle = direction x (motor angle - zero_rad)."""

    name: Name
    direction: Literal[-1, 1]
    zero_rad: _Angle
    """What the motor reads where the model's joint is at zero."""
    lower_rad: _Angle
    """Joint angle, as in the model, below which the joint must not go."""
    upper_rad: _Angle

    def __post_init__(self) -> None:
        if not self.lower_rad < self.upper_rad:
            raise ValueError(f"{self.name}: {self.lower_rad} is not below {self.upper_rad} rad")


class GripperScale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gripper's motor on the arm's bus reads at its two ends."""

    closed_rad: _Angle
    open_rad: _Angle

    def __post_init__(self) -> None:
        if abs(self.open_rad - self.closed_rad) < 0.1:
            raise ValueError(f"gripper: {self.closed_rad} and {self.open_rad} rad are the same")


class JointCalibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scales of one arm; arrays are in the order of its model's joints."""

    arm: Name
    """Name of the arm's model; another arm's calibration is refused."""
    joints: Annotated[tuple[JointScale, ...], msgspec.Meta(min_length=1, max_length=12)]
    gripper: GripperScale | None = None
    """None where the gripper is a device of its own."""
    servos: Annotated[tuple[ServoIdentity, ...], msgspec.Meta(max_length=12)] = ()
    """The joints' motors that were measured; empty where they did not say which they are, as in
    every calibration from before they were asked."""
    gripper_servo: ServoIdentity | None = None
    """The gripper's; None likewise."""

    def __post_init__(self) -> None:
        if self.servos and len(self.servos) != len(self.joints):
            raise ValueError(f"{len(self.servos)} servos of {len(self.joints)} joints")

    @property
    def knows_its_servos(self) -> bool:
        """Whether a motor that was changed since would be noticed."""
        return bool(self.servos) and (self.gripper is None or self.gripper_servo is not None)

    @property
    def digest(self) -> str:
        """sha256 hex of all that was measured; another calibration, another policy identity.

        Without the motors: an arm that moves has those that it was calibrated with.
        """
        measured = {"arm": self.arm, "joints": self.joints, "gripper": self.gripper}
        return hashlib.sha256(msgspec.json.encode(measured)).hexdigest()

    @property
    def directions(self) -> NDArray[np.float64]:
        """float64[N], 1 or -1: multiplies a motor's velocity or load to give the joint's."""
        return np.array([joint.direction for joint in self.joints], np.float64)

    @property
    def limits_rad(self) -> NDArray[np.float64]:
        """float64[N, 2]: lowest and highest angle of each joint."""
        return np.array([(joint.lower_rad, joint.upper_rad) for joint in self.joints])

    def joints_from_motors(self, positions_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the joint angles, float64[N], at the motors' readings float64[N]."""
        return self.directions * (positions_rad - self._zeros)

    def motors_from_joints(self, joints_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the motors' angles, float64[N], at joint angles float64[N]."""
        return self.directions * joints_rad + self._zeros

    @property
    def _zeros(self) -> NDArray[np.float64]:
        return np.array([joint.zero_rad for joint in self.joints])

    @classmethod
    def read(cls, state_folder: Path) -> Self | None:
        """Return what was measured on this robot; None if it never was.

        Raises:
            ConfigurationError: the file cannot be read or is damaged.
        """
        path = state_folder / FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
        except (msgspec.DecodeError, ValueError) as error:
            raise ConfigurationError(
                f"{path}: damaged: {error}; remove it and run `robot-agent calibrate`"
            ) from error

    @classmethod
    def digest_in(cls, state_folder: Path) -> str:
        """Return the digest of what was measured on this robot; "" if nothing was.

        Raises:
            ConfigurationError: see ``read``.
        """
        found = cls.read(state_folder)
        return "" if found is None else found.digest

    @staticmethod
    def remove(state_folder: Path) -> None:
        """Leave the robot without a calibration, if it has one; without it, it does not move.

        Raises:
            ConfigurationError: the file cannot be removed.
        """
        try:
            (state_folder / FILE).unlink(missing_ok=True)
            sync_folder(state_folder)
        except OSError as error:
            raise ConfigurationError(
                f"{state_folder / FILE}: cannot be removed: {error.strerror}"
            ) from error

    def write(self, state_folder: Path) -> None:
        """Keep the calibration in the robot's state folder, whole or not at all.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        text = msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"
        write_over(state_folder / FILE, text, mode=PUBLIC_MODE)
