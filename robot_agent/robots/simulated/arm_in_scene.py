"""ArmInScene: the simulated hand follows the joints of a jointed arm.

The hand of a scene hangs on a gantry that only this class moves: it is led to where the arm's model
puts the grasp point. What lies in the bin can hold the hand back, with the gantry's limited force;
``joints_rad`` then says where the joints really are, and ``torques_nm`` with what they push.

The simulator's own arm (``servo_arm``) uses it, and so can any emulation of an arm's motors. Its
loop, with a time step of its own choice::

    robot = SimulatedRobot.open({"seed": 1, "arm": "so101"})
    arm = robot.arm_in_scene()
    while True:
        wanted_rad = ...                        # what the motors' controllers want now, float64[N]
        arm.follow(robot.scene, wanted_rad, dt_s)
        joints_rad = arm.joints_rad(robot.scene)    # where they are, held back or not
        torques_nm = arm.torques_nm(robot.scene)
        robot.scene.push_jaw(force_n)           # positive opens; opening: robot.scene.opening_m()

The hand stays upright: what the arm tilts, as it does while it is folded, is placed and turned
as the arm says, but not tilted.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robot_agent.kinematics.arm_model import ArmModel
from robot_agent.kinematics.inverse import InverseKinematics
from robot_agent.robots.simulated.hand import DAMPING, FORCE_LIMITS, STIFFNESS
from robot_agent.robots.simulated.motion import STEPS_PER_SETPOINT
from robot_agent.robots.simulated.scene import TIMESTEP_S, Scene

FREE_M, FREE_RAD = 2e-4, 4e-3
"""A hand that is no further off its joints counts as not held back."""
_STEP_RAD = 1e-5


class ArmInScene:
    """The joints of one arm, and the hand of whatever scene it is given."""

    def __init__(
        self,
        arm: ArmModel,
        inverse: InverseKinematics,
        joints_rad: NDArray[np.float64],
        *,
        gain: float = 1.0,
    ) -> None:
        """Begin at joint angles float64[N], where the hand of the scene must be.

        Args:
            arm: where it stands.
            inverse: of the same arm.
            joints_rad: at the beginning.
            gain: stiffness of the gantry's position control relative to nominal.
        """
        self._arm = arm
        self._inverse = inverse
        self._stiffness = STIFFNESS * gain
        self._lag_s = DAMPING / STIFFNESS / math.sqrt(gain)
        self._wanted_rad = self._within_limits(joints_rad)
        self._led_to = hand_at(arm, self._wanted_rad)
        self._owed_s = 0.0

    def follow(self, scene: Scene, joints_rad: NDArray[np.float64], dt_s: float) -> None:
        """Let ``dt_s`` of simulated time pass, in which the joints turn to ``joints_rad``.

        Args:
            scene: at present.
            joints_rad: float64[N]; beyond its limits no joint turns.
            dt_s: what is not a whole number of the scene's steps is made up for by the next call.
        """
        self._owed_s += dt_s
        steps = int(self._owed_s / TIMESTEP_S + 1e-9)
        self._owed_s -= steps * TIMESTEP_S
        if steps:
            self._wanted_rad = self._within_limits(joints_rad)
            self._lead(scene, hand_at(self._arm, self._wanted_rad), steps)

    def hold(self, scene: Scene) -> NDArray[np.float64]:
        """Lead the hand no further than it is now; return where the joints are, float64[N]."""
        self._wanted_rad = self.joints_rad(scene)
        self._led_to = scene.hand_position()
        scene.data.ctrl[:4] = self._led_to
        return self._wanted_rad

    def joints_rad(self, scene: Scene) -> NDArray[np.float64]:
        """Return float64[N]: where the joints are, such that the hand is where it is."""
        off = -self._ahead(scene)
        if np.abs(off[:3]).max() < FREE_M and abs(off[3]) < FREE_RAD:
            return self._wanted_rad.copy()
        return self._inverse.displaced(self._wanted_rad, by_m=off[:3], turned_rad=float(off[3]))

    def torques_nm(self, scene: Scene) -> NDArray[np.float64]:
        """Return float64[N]: with what each joint pushes against what holds the hand, N m.

        Zero where nothing does: the hand's own weight is carried by the gantry.
        """
        force = np.clip(self._stiffness * self._ahead(scene), *FORCE_LIMITS.T)
        return np.asarray(self._jacobian().T @ force, np.float64)

    def _lead(self, scene: Scene, target: NDArray[np.float64], steps: int) -> None:
        """Lead the hand to ``target`` (x, y, z, yaw) evenly, ahead by its control's lag."""
        start = scene.hand_position() + self._ahead(scene)
        way = target - start
        way[3] = math.remainder(float(way[3]), 2 * math.pi)
        ahead = way / (steps * TIMESTEP_S) * self._lag_s
        for done in range(0, steps, STEPS_PER_SETPOINT):
            block = min(STEPS_PER_SETPOINT, steps - done)
            scene.data.ctrl[:4] = start + (done + block) / steps * way + ahead
            scene.advance(block)
        self._led_to = start + way

    def _ahead(self, scene: Scene) -> NDArray[np.float64]:
        """Return float64[4]: by how much the joints are ahead of the hand; x, y, z, yaw."""
        ahead = self._led_to - scene.hand_position()
        ahead[3] = math.remainder(float(ahead[3]), 2 * math.pi)
        return ahead

    def _jacobian(self) -> NDArray[np.float64]:
        """Return float64[4, N]: how x, y, z and yaw change with each joint."""
        columns = []
        for index in range(len(self._wanted_rad)):
            step = np.zeros_like(self._wanted_rad)
            step[index] = _STEP_RAD
            change = hand_at(self._arm, self._wanted_rad + step) - hand_at(
                self._arm, self._wanted_rad - step
            )
            change[3] = math.remainder(float(change[3]), 2 * math.pi)
            columns.append(change / (2 * _STEP_RAD))
        return np.stack(columns, axis=1)

    def _within_limits(self, joints_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(joints_rad, self._arm.lower_rad, self._arm.upper_rad)


def hand_at(arm: ArmModel, joints_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64[4]: x, y, z (metres) and yaw (radians) of the hand at these joints."""
    pose = arm.forward(joints_rad)
    return np.array([pose.x_m, pose.y_m, pose.z_m, pose.yaw_rad])
