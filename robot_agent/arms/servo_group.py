"""What an arm asks of its motors, in SI units: one protocol for the joints, one for a gripper.

Angles are the motors' own: zero where the motor's scale has its middle, positive as its counts
grow. JointCalibration turns them into the joints of the arm's model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from robot_agent.arms.clock import Clock
from robot_agent.robots.base import GripperModel, RobotSite
from robot_agent.serial_bus.port import BusCounters


class ServoFault(StrEnum):
    """What a motor says is wrong with itself."""

    OVERLOAD = "overload"
    OVERHEATED = "overheated"
    VOLTAGE = "supply voltage out of range"
    OVERCURRENT = "overcurrent"
    SENSOR = "angle sensor or hardware fault"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServoReadings:
    """What the motors measured of themselves in one cycle; arrays are in the group's order."""

    positions_rad: NDArray[np.float64]
    """float64[N]."""
    goals_rad: NDArray[np.float64]
    """float64[N], where each motor was told to be; NaN for one that is off."""
    velocities_rad_s: NDArray[np.float64]
    """float64[N]."""
    loads: NDArray[np.float64]
    """float64[N], in [-1, 1]: share of the stall torque, signed like the angles."""
    temperatures_c: NDArray[np.float64]
    """float64[N]."""
    voltages_v: NDArray[np.float64]
    """float64[N], of the supply as it arrives at the motor."""
    read_at_ns: int
    """When, UTC."""
    faults: tuple[frozenset[ServoFault], ...]
    """Per motor, what it complains of."""


class ServoGroup(Protocol):
    """The motors of an arm's joints, in the order of its model, without the gripper's.

    Everything may raise RobotError: a motor does not answer, or the cable is out. What failed may
    be tried again. One transaction takes at most a few hundredths of a second, tries included.
    """

    @property
    def counters(self) -> BusCounters:
        """What happened on the motors' bus so far; other groups on it count too."""
        ...

    def check_models(self) -> None:
        """See that every motor is there and is what it should be.

        Raises:
            ConfigurationError: one is of another model.
        """
        ...

    def read(self) -> ServoReadings:
        """Measure all motors now, in one transaction where the bus can."""
        ...

    def command(
        self,
        positions_rad: NDArray[np.float64],
        *,
        speeds_rad_s: NDArray[np.float64],
        accelerations_rad_s2: NDArray[np.float64],
    ) -> None:
        """Give all motors new goals in one transaction; returns before they are there.

        Args:
            positions_rad: float64[N].
            speeds_rad_s: float64[N], with which each motor may approach its goal at most.
            accelerations_rad_s2: float64[N], with which each may change its speed at most.
        """
        ...

    def set_torque(self, enabled: bool, limit_share: float) -> None:
        """Switch all motors on or off and limit their torque.

        A motor that is switched on takes where it stands as its goal first: it never jumps.

        Args:
            enabled: False lets the arm fall.
            limit_share: of the stall torque, above 0, at most 1.
        """
        ...

    def close(self) -> None:
        """Let go of the bus; the motors stay as they are. May be called twice."""
        ...


class GripperMotor(Protocol):
    """What opens and closes the fingers: a motor on the arm's bus, or a device of its own.

    Everything may raise RobotError: it does not answer, or the cable is out.
    """

    @property
    def model(self) -> GripperModel:
        """The gripper's data sheet."""
        ...

    def open_fully(self) -> float:
        """Open until the fingers stop; return the measured opening in metres."""
        ...

    def close(self) -> float:
        """Close with the site's ``max_grip`` until the fingers stop; return the measured opening
        in metres. It goes on gripping.
        """
        ...

    def opening_m(self) -> float:
        """Measure the opening now, metres."""
        ...

    def hold(self) -> None:
        """Keep the fingers as they are with limited force; what is held stays held. Any thread may
        call this; a motion of the fingers that goes on ends.
        """
        ...

    def disconnect(self) -> None:
        """Let go of the device, which stays as it is. May be called twice."""
        ...


class GripperDevice(GripperMotor, Protocol):
    """A gripper with a port of its own, which an arm's option ``gripper`` names."""

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite, clock: Clock) -> Self:
        """Connect to the gripper; nothing moves yet.

        Raises:
            ConfigurationError: an option is unknown or unusable, or its port is in use.
            RobotError: the gripper does not answer.
        """
        ...
