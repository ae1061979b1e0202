"""ServoArm: carries the simulated hand as an arm's joints do, within limits and with a lag."""

from __future__ import annotations

import logging
import math

import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError
from robot_agent.arms.hand_path import HandPaths
from robot_agent.arms.joint_path import JointPath
from robot_agent.config import SafetyConfig
from robot_agent.kinematics.arm_model import ArmModel
from robot_agent.kinematics.inverse import InverseKinematics
from robot_agent.robots.simulated.arm_in_scene import ArmInScene, hand_at
from robot_agent.robots.simulated.gantry import is_at_rest
from robot_agent.robots.simulated.scene import Scene

logger = logging.getLogger(__name__)

CYCLE_S = 0.02
"""Between two set points of the joints."""
COUNT_RAD = 2 * math.pi / 4096
"""What a servo's angle sensor can tell apart, and its controller can be told."""
MAX_SERVO_ACCELERATION_RAD_S2 = 60.0
CARRYING_SLOWDOWN = 1.5

_SETTLE_CYCLES = 30
_AT_REST_RAD_S = 0.02
_ARRIVED_RAD = 0.02


class LaggingServos:
    """Motors that turn towards their goals as fast as they can, and ever slower near them."""

    def __init__(self, arm: ArmModel, joints_rad: NDArray[np.float64], lag_s: float) -> None:
        """Begin at rest at ``joints_rad``, float64[N].

        Args:
            arm: whose limits of angle and speed hold.
            joints_rad: at the beginning.
            lag_s: by which a joint is behind its goal while that moves evenly.
        """
        self._arm = arm
        self._lag_s = lag_s
        self.joints_rad = joints_rad
        self.speeds_rad_s = np.zeros_like(joints_rad)

    def turn_towards(self, goals_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        """Let one cycle pass; return the joints, float64[N]."""
        goals_rad = np.clip(in_counts(goals_rad), self._arm.lower_rad, self._arm.upper_rad)
        wanted = (goals_rad - self.joints_rad) / (self._lag_s + CYCLE_S)
        most = self._arm.max_speeds_rad_s
        change = MAX_SERVO_ACCELERATION_RAD_S2 * CYCLE_S
        wanted = np.clip(np.clip(wanted, -most, most), *self._about_speeds(change))
        self.speeds_rad_s = wanted
        self.joints_rad = self.joints_rad + wanted * CYCLE_S
        return self.joints_rad

    def stand_at(self, joints_rad: NDArray[np.float64]) -> None:
        """Be at rest at ``joints_rad``, float64[N]."""
        self.joints_rad, self.speeds_rad_s = joints_rad, np.zeros_like(joints_rad)

    def _about_speeds(self, change: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.speeds_rad_s - change, self.speeds_rad_s + change


class ServoArm:
    """A Carrier (see gantry). Not for use from several threads."""

    clearance_m = 0.12

    def __init__(
        self,
        arm: ArmModel,
        safety: SafetyConfig,
        *,
        parking: GripperPose,
        lag_s: float,
        gain: float,
    ) -> None:
        """Begin parked, at rest.

        Args:
            arm: where it stands.
            safety: limits of every motion.
            parking: out of every camera's view, base frame.
            lag_s: of the motors behind their goals.
            gain: see ArmInScene.

        Raises:
            ConfigurationError: the arm cannot reach its parking pose.
        """
        self._inverse = InverseKinematics(arm)
        self._paths = HandPaths(arm, self._inverse, safety)
        middle = (arm.lower_rad + arm.upper_rad) / 2
        solution = self._inverse.solve(parking, near=middle)
        if solution is None:
            raise ConfigurationError(f"arm {arm.name}: from its mount it cannot reach {parking}")
        self._parked_rad = self._joints_rad = solution.joints_rad
        self._arm = arm
        self._servos = LaggingServos(arm, self._parked_rad, lag_s)
        self._asked_yaw_rad = parking.yaw_rad
        self.in_scene = ArmInScene(arm, self._inverse, self._parked_rad, gain=gain)
        """What leads the hand; for one who drives the joints himself."""

    @property
    def parked(self) -> NDArray[np.float64]:
        """See Carrier."""
        return hand_at(self._arm, self._parked_rad)

    def measured(self, scene: Scene) -> NDArray[np.float64]:
        """See Carrier: where the model puts the hand at what the joints' sensors read.

        Of the two yaws that close alike it says the one nearer to what was asked for last.
        """
        measured = hand_at(self._arm, in_counts(self.in_scene.joints_rad(scene)))
        off = math.remainder(float(measured[3] - self._asked_yaw_rad), math.pi)
        measured[3] = self._asked_yaw_rad + off
        return measured

    def go(self, scene: Scene, target: NDArray[np.float64], *, carrying: bool) -> None:
        """See Carrier; of the two yaws that close alike the nearer one is taken."""
        x, y, z, yaw = (float(value) for value in target)
        self._asked_yaw_rad = yaw
        self._follow(
            scene,
            self._paths.line_to(
                GripperPose(x_m=x, y_m=y, z_m=z, yaw_rad=yaw),
                start_rad=self._joints_rad,
                slowdown=CARRYING_SLOWDOWN if carrying else 1.0,
            ),
        )

    def park(self, scene: Scene, *, yaw_rad: float, carrying: bool) -> None:
        """See Carrier: all joints together, to the one yaw of the parking pose."""
        self._follow(
            scene,
            self._paths.joints_to(
                self._parked_rad,
                start_rad=self._joints_rad,
                slowdown=CARRYING_SLOWDOWN if carrying else 1.0,
            ),
        )

    def hold(self, scene: Scene) -> None:
        """See Carrier."""
        self._joints_rad = self.in_scene.hold(scene)
        self._servos.stand_at(self._joints_rad)

    def nearest_reachable(self, pose: GripperPose) -> GripperPose:
        """See Carrier."""
        return self._inverse.nearest_reachable(pose, near=self._joints_rad)

    def _follow(self, scene: Scene, path: JointPath) -> None:
        """Go along ``path`` and wait until the joints rest; hold still where they are blocked."""
        for cycle in range(1, math.ceil(path.duration_s / CYCLE_S) + 1):
            self._cycle(scene, path.at(cycle * CYCLE_S))
        end_rad = path.joints_rad[-1]
        for _ in range(_SETTLE_CYCLES):
            self._cycle(scene, end_rad)
            if np.abs(self._servos.speeds_rad_s).max() < _AT_REST_RAD_S and is_at_rest(scene):
                break
        self._joints_rad = self.in_scene.joints_rad(scene)
        if np.abs(end_rad - self._joints_rad).max() > _ARRIVED_RAD:
            self.hold(scene)

    def _cycle(self, scene: Scene, goals_rad: NDArray[np.float64]) -> None:
        self.in_scene.follow(scene, self._servos.turn_towards(goals_rad), CYCLE_S)


def in_counts(joints_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the angles as a servo can tell them apart."""
    return np.asarray(np.round(joints_rad / COUNT_RAD) * COUNT_RAD, np.float64)
