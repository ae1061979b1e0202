"""What the motors of an emulated SO-101 turn: joints and jaw of a simulated hand over a bin."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from robot_agent.arms.joint_calibration import JointCalibration
from robot_agent.arms.linkage import HingedJaw
from robot_agent.robots.simulated import SimulatedRobot
from robot_agent.robots.simulated.hand import GRIP_FORCE_N, MAX_OPENING_M
from robot_agent.robots.simulated.truth import touched_objects
from robot_agent.robots.so101 import JAW_ID, JAW_LENGTH_M, JOINT_IDS
from tests.emulators.servo_mechanics import LOAD_PER_RAD, Drive, FreeShafts, Shaft

LAG_S = 0.05
"""By which a joint is behind what its motor's own ramp makes of its goal."""
STALL_NM = 1.9
"""Torque of an STS3215 at 7.4 V."""
JAW_FORCE_N = 2 * GRIP_FORCE_N
"""Of each finger at the stall torque: half of it is the simulated hand's own grip."""
LOOK_AT_GRIP_S = 0.05


class ArmInBin:
    """Satisfies Mechanics. Time passes in the bin as the line of motors lets it."""

    def __init__(self, robot: SimulatedRobot, calibration: JointCalibration) -> None:
        """Begin parked, with the jaw as it is.

        Args:
            robot: a simulated SO-101; its own motors are not used.
            calibration: what the motors read at the joints of the model.
        """
        assert calibration.gripper is not None
        self._robot = robot
        self._arm = robot.arm_in_scene()
        self._calibration = calibration
        self._scale = calibration.gripper
        self._linkage = HingedJaw(length_m=JAW_LENGTH_M)
        self._ramps = FreeShafts()
        self._joints_rad = self._turned_rad = self._arm.joints_rad(robot.scene)
        self._grip_looked_at_s = 0.0
        for servo_id, motor_rad in zip(JOINT_IDS, self._motors_rad(), strict=True):
            self._ramps.shafts[servo_id] = Shaft(position_rad=motor_rad)

    def step(self, drives: Mapping[int, Drive], dt_s: float) -> Mapping[int, Shaft]:
        """Let time pass; see Mechanics."""
        joints = {servo_id: drives[servo_id] for servo_id in JOINT_IDS}
        before_rad = self._motors_rad()
        ramps = self._ramps.step(joints, dt_s)
        self._push_jaw(drives[JAW_ID], dt_s)
        self._turn(np.array([ramps[one].position_rad for one in JOINT_IDS]), dt_s)
        shafts = self._measured(joints, before_rad, dt_s)
        shafts[JAW_ID] = self._jaw_shaft(drives[JAW_ID])
        return shafts

    def _turn(self, ramps_rad: NDArray[np.float64], dt_s: float) -> None:
        wanted_rad = self._calibration.joints_from_motors(ramps_rad)
        share = -math.expm1(-dt_s / LAG_S)
        self._turned_rad = self._turned_rad + share * (wanted_rad - self._turned_rad)
        self._arm.follow(self._robot.scene, self._turned_rad, dt_s)
        self._joints_rad = self._arm.joints_rad(self._robot.scene)

    def _measured(
        self, joints: Mapping[int, Drive], before_rad: NDArray[np.float64], dt_s: float
    ) -> dict[int, Shaft]:
        here_rad = self._motors_rad()
        torques = self._calibration.directions * self._arm.torques_nm(self._robot.scene)
        limits = np.array([drive.max_torque if drive.is_on else 0.0 for drive in joints.values()])
        loads = np.clip(torques / STALL_NM, -limits, limits)
        speeds = (here_rad - before_rad) / dt_s if dt_s else np.zeros_like(here_rad)
        return {
            servo_id: Shaft(position_rad=position, velocity_rad_s=speed, load=load)
            for servo_id, position, speed, load in zip(
                JOINT_IDS, here_rad.tolist(), speeds.tolist(), loads.tolist(), strict=True
            )
        }

    def _push_jaw(self, drive: Drive, dt_s: float) -> None:
        self._robot.scene.push_jaw(JAW_FORCE_N * self._jaw_load(drive) * self._opens)
        self._grip_looked_at_s += dt_s
        is_closing = self._opens * (drive.goal_rad - self._jaw_rad()) < 0
        if is_closing and self._grip_looked_at_s > LOOK_AT_GRIP_S:
            # MuJoCo would let what is held fall asleep in mid-air.
            self._robot.scene.keep_awake(touched_objects(self._robot.scene))
            self._grip_looked_at_s = 0.0

    def _jaw_shaft(self, drive: Drive) -> Shaft:
        scene = self._robot.scene
        closing_m_s = float(np.abs(scene.data.qvel[scene.finger_qpos]).sum())
        return Shaft(
            position_rad=self._jaw_rad(),
            velocity_rad_s=closing_m_s / JAW_LENGTH_M,
            load=self._jaw_load(drive),
        )

    def _jaw_load(self, drive: Drive) -> float:
        """Return the share of its stall torque that the jaw's motor gives, in its own sense."""
        if not drive.is_on:
            return 0.0
        load = LOAD_PER_RAD * (drive.goal_rad - self._jaw_rad())
        return min(max(load, -drive.max_torque), drive.max_torque)

    def _jaw_rad(self) -> float:
        opening_m = min(max(self._robot.scene.opening_m(), 0.0), MAX_OPENING_M)
        return self._scale.closed_rad + self._opens * self._linkage.turn_rad(opening_m)

    def _motors_rad(self) -> NDArray[np.float64]:
        return self._calibration.motors_from_joints(self._joints_rad)

    @property
    def _opens(self) -> float:
        return math.copysign(1.0, self._scale.open_rad - self._scale.closed_rad)
