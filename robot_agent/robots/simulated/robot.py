"""The simulated robot: an ordinary driver whose motors, bin and instrument are MuJoCo's."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose, ReferenceOutcome
from protocol.errors import ConfigurationError, RobotError
from robot_agent.config import SafetyConfig
from robot_agent.kinematics.arm_model import ArmModel
from robot_agent.robots.base import GripperModel, RobotSite, RobotState
from robot_agent.robots.simulated.arm_in_scene import ArmInScene
from robot_agent.robots.simulated.gantry import Carrier, Gantry
from robot_agent.robots.simulated.hand import GRIP_FORCE_N, GRIPPER, MAX_OPENING_M
from robot_agent.robots.simulated.options import SimulationOptions, parse_options
from robot_agent.robots.simulated.scene import TIMESTEP_S, Scene, build_scene
from robot_agent.robots.simulated.servo_arm import ServoArm
from robot_agent.robots.simulated.truth import RISE_M, grasp_truth, nearest_object, touched_objects

logger = logging.getLogger(__name__)

_JAW_BLOCK = 4
_JAW_LIMIT_S = 0.6
_SLIP_LIMIT_S = 2.0
_STEADY_BLOCKS = 8
_JAW_REST_SPEED = 0.004
_WEAR_OFFSET_M = 0.0008


class SimulatedRobot:
    """A hand over a bin of objects; satisfies Robot, InstrumentedRobot and ReachLimitedRobot.

    Time in the simulation passes only while a method runs. Not for use from several threads.
    """

    def __init__(self, options: SimulationOptions, safety: SafetyConfig | None = None) -> None:
        """Fill a bin; ``safety`` limits the motions of an arm, and is not asked of a gantry."""
        self.options = options
        self.scene_resets = 0
        """Scenes rebuilt before their time, because an object left the bin or the physics broke."""
        self._random = np.random.default_rng(options.seed)
        self._noise = np.random.default_rng([options.seed, 1])
        self._carrier = _carrier(options, safety or SafetyConfig())
        self._scene = build_scene(options, self._random, self._carrier.parked)
        self._attempts_in_scene = 0
        self._prepared = False
        self._closed_at: tuple[int, NDArray[np.float64]] | None = None

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite | None = None) -> Self:
        """Fill a bin and park the hand; of its site it needs the limits of an arm's motions.

        Raises:
            ConfigurationError: an option is unknown or out of range.
        """
        return cls(parse_options(options), site.safety if site is not None else None)

    @property
    def scene(self) -> Scene:
        """The scene at present; another one after the bin was refilled."""
        return self._scene

    def arm_in_scene(self) -> ArmInScene:
        """Return what leads the hand by an arm's joints, for one who drives them himself.

        Raises:
            ConfigurationError: this robot has no arm.
        """
        if not isinstance(self._carrier, ServoArm):
            raise ConfigurationError("simulated robot: it has no joints; give it the option 'arm'")
        return self._carrier.in_scene

    @property
    def gripper(self) -> GripperModel:
        """The gripper's data sheet."""
        return GRIPPER

    def state(self) -> RobotState:
        """Measure pose and opening now, the pose by the sensors of whatever carries the hand."""
        x, y, z, yaw = self._carrier.measured(self._scene)
        return RobotState(
            pose=GripperPose(x_m=float(x), y_m=float(y), z_m=float(z), yaw_rad=_wrap(float(yaw))),
            opening_m=self._measure_opening(),
            measured_at_ns=time.time_ns(),
        )

    def move_to(self, pose: GripperPose) -> RobotState:
        """Move in a straight line to ``pose``; return where the hand ended, also if blocked."""
        position = self._position()
        turn = _wrap(pose.yaw_rad - float(position[3]))
        self._travel(np.array([pose.x_m, pose.y_m, pose.z_m, position[3] + turn]))
        return self.state()

    def open_gripper(self) -> float:
        """Open fully; return the measured opening in metres."""
        if self._closed_at is not None:
            self._scene.keep_awake(self._object_heights() - self._closed_at[1] > RISE_M / 4)
        return self._drive_jaw(GRIP_FORCE_N)

    def close_gripper(self) -> float:
        """Close until the fingers stop; return the measured opening in metres."""
        opening = self._drive_jaw(-GRIP_FORCE_N)
        self._scene.keep_awake(touched_objects(self._scene))
        self._closed_at = (
            nearest_object(self._scene, self._position()[:3]),
            self._object_heights().copy(),
        )
        return opening

    def retreat(self) -> RobotState:
        """Rise above the walls, then move out of view, jaw as it is."""
        position = self._position()
        if position[2] < self._carrier.clearance_m:
            self._travel(np.array([*position[:2], self._carrier.clearance_m, position[3]]))
        self._begin_motion()
        self._carrier.park(self._scene, yaw_rad=float(position[3]), carrying=self._is_closed())
        self._check_physics()
        if self._is_closed():
            # What slips out of the grip just now must not be read as held.
            self._await_still_jaw(_SLIP_LIMIT_S, still_blocks=_STEADY_BLOCKS)
        return self.state()

    def nearest_reachable(self, pose: GripperPose) -> GripperPose:
        """Return ``pose`` where it can be had, else a pose near it that can; nothing moves."""
        return self._carrier.nearest_reachable(pose)

    def prepare_attempt(self) -> bool:
        """Refill the bin when it is due or an object left it; wait until all objects rest."""
        outside = self._scene.objects_outside()
        stable = self._scene.is_stable()
        due = self._attempts_in_scene >= self.options.attempts_per_scene
        if outside or not stable:
            self.scene_resets += 1
            logger.info(
                "bin refilled before its time",
                extra={"objects_outside": outside, "physics_stable": stable},
            )
        refilled = bool(outside or due or not stable)
        if refilled:
            self._scene = build_scene(self.options, self._random, self._carrier.parked)
            self._attempts_in_scene = 0
        else:
            self._scene.settle()
        self._closed_at = None
        self._attempts_in_scene += 1
        changed = refilled or not self._prepared
        self._prepared = True
        return changed

    def reference_outcome(self) -> ReferenceOutcome:
        """Say what is held now, from the simulator's own contacts."""
        nearest, heights = self._closed_at or (None, self._object_heights())
        return grasp_truth(self._scene, heights, nearest, self._position()[:3])

    def stop(self) -> None:
        """Hold still where the hand is."""
        self._carrier.hold(self._scene)

    def close(self) -> None:
        """Hold still; the simulation needs no disconnecting."""
        self.stop()

    def _position(self) -> NDArray[np.float64]:
        """Return float64[4]: x, y, z, yaw as MuJoCo has them."""
        return self._scene.hand_position()

    def _is_closed(self) -> bool:
        return bool(self._scene.data.ctrl[4] < 0)

    def _object_heights(self) -> NDArray[np.float64]:
        return np.asarray(self._scene.data.xipos[self._scene.object_bodies, 2], np.float64)

    def _step(self, steps: int) -> None:
        self._scene.advance(steps)

    def _travel(self, target: NDArray[np.float64]) -> None:
        """Follow a straight line to ``target`` and wait until the hand rests, there or blocked."""
        self._begin_motion()
        self._carrier.go(self._scene, target, carrying=self._is_closed())
        self._check_physics()

    def _begin_motion(self) -> None:
        if self.options.latency_s > 0:
            self._step(math.ceil(self.options.latency_s / TIMESTEP_S))

    def _drive_jaw(self, force: float) -> float:
        """Push both fingers with ``force`` (newtons, positive opens) until they stop."""
        self._scene.push_jaw(force)
        self._step(2 * _JAW_BLOCK)
        self._await_still_jaw(_JAW_LIMIT_S)
        self._check_physics()
        return self._measure_opening()

    def _await_still_jaw(self, limit_s: float, still_blocks: int = 1) -> None:
        """Let simulated time pass until both fingers rest, at most ``limit_s``.

        Args:
            limit_s: then it returns, whether they rest or not.
            still_blocks: how often in succession they must be found at rest.
        """
        found = 0
        for _ in range(math.ceil(limit_s / TIMESTEP_S / _JAW_BLOCK)):
            speed = np.abs(self._scene.data.qvel[self._scene.finger_qpos])
            found = found + 1 if (speed < _JAW_REST_SPEED).all() else 0
            if found == still_blocks:
                return
            self._step(_JAW_BLOCK)

    def _measure_opening(self) -> float:
        """Read the opening as the gripper's own sensor would, with its wear, drift and noise."""
        opening = self._scene.opening_m()
        opening += self.options.opening_drift_m + _WEAR_OFFSET_M * self.options.gripper_wear
        opening += float(self._noise.normal(0.0, self.options.opening_noise_m))
        return min(max(opening, 0.0), MAX_OPENING_M + 0.005)

    def _check_physics(self) -> None:
        if not self._scene.is_stable():
            why = f" ({self._scene.fault})" if self._scene.fault else ""
            raise RobotError(
                f"simulated robot: the physics became unstable{why}; the bin is refilled before "
                "the next attempt"
            )


def _carrier(options: SimulationOptions, safety: SafetyConfig) -> Carrier:
    if not options.arm:
        return Gantry(options.actuator_gain)
    place = options.arm_place
    return ServoArm(
        ArmModel.load(options.arm, mount=place.mount),
        safety,
        parking=place.parking.pose,
        lag_s=options.servo_lag_s,
        gain=options.actuator_gain,
    )


def _wrap(angle_rad: float) -> float:
    """Return the same direction in [-pi, pi]."""
    return math.remainder(angle_rad, 2 * math.pi)
