"""JointArm: a Robot made of a chain of joints, their motors, and a gripper at the end.

What the first motion after opening does: the arm may lie folded, tilted, or below the table's
height. If the hand is upright it rises straight to ``clearance_m`` first. Then all joints go
together, slowly and with the torque of holding, to the parking pose; at a contact the arm stays
where it is and the motion is given up. The same is done when somebody or a loss of power has moved
the arm meanwhile.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, GraspFleetError
from robot_agent.arms.arm_motions import ArmMotions
from robot_agent.arms.clock import Clock
from robot_agent.arms.holding import hold_still
from robot_agent.arms.motion_gate import MotionGate
from robot_agent.arms.servo_checks import check_bus, check_servos
from robot_agent.arms.servo_group import GripperMotor, ServoGroup
from robot_agent.arms.servo_watch import ServoWatch
from robot_agent.arms.still_fingers import await_still_fingers
from robot_agent.kinematics.arm_model import ArmModel
from robot_agent.robots.base import (
    GripperModel,
    RobotSite,
    RobotState,
    SelfCheckingRobot,
    ThermometerRobot,
)
from robot_agent.robots.check_result import CheckResult
from robot_agent.serial_bus.named_errors import named_errors
from robot_agent.serial_bus.port import BusCounters

logger = logging.getLogger(__name__)

CLOSING_SLOWDOWN = 2.0


class JointArm:
    """Satisfies Robot, ReachLimitedRobot, TurningRobot, ThermometerRobot, WiredRobot and
    SelfCheckingRobot, but for ``open`` and ``hold``, which a driver adds.

    Motions from one thread; ``stop`` from any.
    """

    def __init__(
        self,
        *,
        model: ArmModel,
        site: RobotSite,
        servos: ServoGroup,
        gripper: GripperMotor,
        calibrated: ArmMotions | None,
        watch: ServoWatch,
        gate: MotionGate,
        clock: Clock,
        shuffle: Callable[[JointArm], bool] | None = None,
    ) -> None:
        """Take what a driver has opened; nothing moves.

        Args:
            model: the arm as it was built; calibration narrows its limits only in ``calibrated``.
            site: its name and limits.
            servos: the joints' motors.
            gripper: whatever opens and closes the fingers.
            calibrated: None before the arm was calibrated; it then refuses to move.
            watch: what the drive's readings are judged by.
            gate: shared by all that moves.
            clock: for every wait.
            shuffle: stirs the bin; see ``ArmOptions.shuffle``.
        """
        self.model = model
        """The arm as it was built: its name and its joints, for who calibrates it."""
        self._site = site
        self._servos = servos
        self._gripper = gripper
        self._arm = calibrated
        self._watch = watch
        self._gate = gate
        self._clock = clock
        self._shuffle = shuffle
        self._has_torque = self._is_closed = False
        self._asked_yaw_rad = 0.0

    @property
    def servos(self) -> ServoGroup:
        """The joints' motors, for who calibrates or checks them."""
        return self._servos

    @property
    def gripper_motor(self) -> GripperMotor:
        """What moves the fingers, for who calibrates or checks it."""
        return self._gripper

    @property
    def gripper(self) -> GripperModel:
        """The gripper's data sheet."""
        return self._gripper.model

    def state(self) -> RobotState:
        """Measure pose and opening now.

        Of the two yaws that close alike it says the one nearer to what was asked for last.
        """
        with named_errors(self._site.name):
            arm = self._calibrated()
            readings = arm.read()
            pose = arm.model.forward(readings.joints_rad)
            off_rad = math.remainder(pose.yaw_rad - self._asked_yaw_rad, math.pi)
            return RobotState(
                pose=replace(pose, yaw_rad=self._asked_yaw_rad + off_rad),
                opening_m=self._gripper.opening_m(),
                measured_at_ns=readings.read_at_ns,
            )

    def hand_yaw_rad(self) -> float:
        """Measure which of the two yaws that close alike the hand has; see TurningRobot."""
        with named_errors(self._site.name):
            arm = self._calibrated()
            return arm.model.forward(arm.read().joints_rad).yaw_rad

    def move_to(self, pose: GripperPose) -> RobotState:
        """Move in a straight line to ``pose``; return where the hand ended, also if blocked.

        It leaves the line where that would need another configuration of the arm; see HandPaths.

        Raises:
            RobotError, SafetyFault: see ServoWatch; stopped, or a motor does not answer.
            ConfigurationError: the arm is not calibrated.
        """
        with self._motion() as arm:
            self._asked_yaw_rad = pose.yaw_rad
            arm.go(pose)
        return self.state()

    def open_gripper(self) -> float:
        """Open fully; return the measured opening in metres."""
        with self._motion():
            return self._gripper.open_fully()

    def close_gripper(self) -> float:
        """Close until the fingers stop; return the measured opening in metres."""
        with self._motion():
            return self._gripper.close()

    def retreat(self) -> RobotState:
        """Rise, then go to the parking pose; return when the fingers are still.

        Raises:
            RobotError: something is in the way: the hand would be in the picture.
        """
        with self._motion() as arm:
            arm.park()
            await_still_fingers(self._gripper.opening_m, self._clock, self._site.beat)
        return self.state()

    def prepare_attempt(self) -> bool:
        """Stir the bin if ``shuffle`` is configured; True if it was. Nobody refills a real bin."""
        return self._shuffle(self) if self._shuffle is not None else False

    def nearest_reachable(self, pose: GripperPose) -> GripperPose:
        """Return ``pose`` where it can be had, else a pose near it that can; nothing moves."""
        with named_errors(self._site.name):
            arm = self._calibrated()
            return arm.nearest_reachable(pose)

    def temperature_c(self) -> float:
        """Return the temperature of the hottest motor, degrees Celsius."""
        with named_errors(self._site.name):
            celsius = float(self._servos.read().temperatures_c.max())
            if isinstance(self._gripper, ThermometerRobot):
                celsius = max(celsius, self._gripper.temperature_c())
            return celsius

    def bus_counters(self) -> BusCounters:
        """Return what happened on the motors' bus since the arm was opened."""
        return self._servos.counters

    def checks(self) -> Iterator[CheckResult]:
        """Say what every motor measures of itself; nothing moves."""
        yield from check_servos(self._servos, self._watch)
        yield from check_bus(self._servos)
        if isinstance(self._gripper, SelfCheckingRobot):
            yield from self._gripper.checks()

    def stop(self) -> None:
        """Hold still where the arm is with limited torque, from any state and any thread."""
        with named_errors(self._site.name), self._gate.stopping(), ExitStack() as both:
            self._has_torque = True
            # The gripper too, when the arm's own motors do not answer.
            both.callback(self._gripper.hold)
            hold_still(self._servos, self._site.safety.hold_torque)

    def close(self) -> None:
        """Park gently, then hold with limited torque: the arm never drops. May be called twice.

        After a fault, an error or a stop it only holds; an arm that never moved is left alone.

        Raises:
            RobotError: it may not hold still; who guards the arm must see to it.
        """
        if self._is_closed:
            return
        self._is_closed = True
        with ExitStack() as parts:
            parts.callback(self._gripper.disconnect)
            parts.callback(self._servos.close)
            if self._gate.is_ready:
                self._try_to_park()
            if self._has_torque:
                self.stop()

    def _try_to_park(self) -> None:
        try:
            with self._motion() as arm:
                arm.park(CLOSING_SLOWDOWN)
        except GraspFleetError as error:
            # Holding still where it is will do.
            logger.warning("%s: it is not parked: %s", self._site.name, error)

    @contextmanager
    def _motion(self) -> Iterator[ArmMotions]:
        with named_errors(self._site.name), self._gate.motion(self._site.beat, self._make_ready):
            yield self._calibrated()

    def _make_ready(self) -> None:
        arm = self._calibrated()
        self._has_torque = True
        arm.make_ready()

    def _calibrated(self) -> ArmMotions:
        if self._arm is None:
            raise ConfigurationError(
                f"{self._site.name}: the arm is not calibrated; run `robot-agent calibrate`"
            )
        return self._arm
