"""GcodeArm: an arm whose controller does its own kinematics and takes G-code, as uArm Swift does.

What the first motion does, and the first after the board has restarted: the motors are switched on
where the arm is, an arm that must look for its zero does so, and the hand rises straight to
``clearance_m`` and goes slowly to its parking place.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any, Self

import numpy as np

from protocol.episode import GripperPose
from protocol.errors import RobotError
from robot_agent.arms.arm_options import load_shuffle, parse_options
from robot_agent.arms.clock import Clock, SystemClock
from robot_agent.arms.motion_gate import MotionGate
from robot_agent.arms.servo_group import GripperMotor
from robot_agent.arms.still_fingers import await_still_fingers
from robot_agent.robots.base import GripperModel, RobotSite, RobotState
from robot_agent.robots.check_result import CheckResult, fail, ok
from robot_agent.robots.gcode_controller import GcodeController
from robot_agent.robots.gcode_options import GcodeOptions
from robot_agent.robots.gcode_parts import hold_gripper, make_controller, open_gripper
from robot_agent.robots.gcode_reach import WRIST_CENTRE_DEG, GcodePose, GcodeReach
from robot_agent.robots.gcode_wrist import GcodeWrist
from robot_agent.robots.switched_tool import SwitchedTool
from robot_agent.serial_bus.port import BusCounters

logger = logging.getLogger(__name__)

FIRST_SLOWDOWN, CLOSING_SLOWDOWN = 4.0, 2.0
PARKED_M = 0.01
"""A hand that is farther from its parking place would be in the picture."""


class GcodeArm:
    """Satisfies Robot, ReachLimitedRobot, GuardedRobot, WiredRobot and SelfCheckingRobot.

    Motions from one thread; ``stop`` from any.
    """

    def __init__(
        self,
        *,
        site: RobotSite,
        options: GcodeOptions,
        controller: GcodeController,
        wrist: GcodeWrist,
        gripper: GripperMotor | SwitchedTool,
        gate: MotionGate,
        clock: Clock,
        shuffle: Callable[[GcodeArm], bool] | None,
    ) -> None:
        """Take what ``open`` has opened; nothing moves."""
        self._site = site
        self._options = options
        self._controller = controller
        self._gripper = gripper
        self._gate = gate
        self._clock = clock
        self._shuffle = shuffle
        self._reach = GcodeReach(options)
        self._wrist = wrist
        self._asked_yaw_rad = 0.0
        self._is_closed = self._has_moved = False
        self._ready_life = -1
        """Of the board's lives, the last that the arm was made ready in."""

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite, clock: Clock | None = None) -> Self:
        """Connect to the controller; nothing moves yet.

        Raises:
            ConfigurationError: an option is unknown or unusable, the port is in use, or the
                firmware is another one.
            RobotError: the controller or the gripper does not answer.
        """
        parsed = parse_options(options, GcodeOptions, site, name="robot.options")
        clock = clock or SystemClock()
        gate = MotionGate(site.name)
        shuffle = load_shuffle(parsed.shuffle) if parsed.shuffle else None
        controller = make_controller(parsed, site, gate, clock)
        with ExitStack() as undo:
            undo.callback(controller.close)
            logger.info("firmware", extra={"robot": site.name, "says": controller.identify()})
            arm = cls(
                site=site,
                options=parsed,
                controller=controller,
                wrist=GcodeWrist(
                    controller, name=site.name, max_speed_rad_s=site.safety.max_joint_speed_rad_s
                ),
                gripper=open_gripper(parsed, controller, site, clock),
                gate=gate,
                clock=clock,
                shuffle=shuffle,
            )
            undo.pop_all()
        return arm

    @classmethod
    def hold(cls, options: Mapping[str, Any], site: RobotSite) -> None:
        """Hold still where the arm is, after its agent is gone.

        Raises:
            ConfigurationError: an option is unusable, or the port is in use.
            RobotError: the controller does not answer.
        """
        parsed = parse_options(options, GcodeOptions, site, name="robot.options")
        clock = SystemClock()
        with ExitStack() as parts:
            parts.callback(hold_gripper, parsed, site, clock)
            controller = make_controller(parsed, site, MotionGate(site.name), clock)
            parts.callback(controller.close)
            controller.stop()

    @property
    def gripper(self) -> GripperModel:
        """The gripper's data sheet."""
        return self._gripper.model

    def state(self) -> RobotState:
        """Measure position and opening now; the wrist is where it was told to go.

        Of the two yaws that close alike it says the one nearer to what was asked for last.

        Raises:
            PoseUnknownError: the arm has not looked for its zero since its board started.
            RobotError: no answer, or the board has restarted.
        """
        return RobotState(
            pose=self._reach.to_base(self._here(), near_yaw_rad=self._asked_yaw_rad),
            opening_m=self._gripper.opening_m(),
            measured_at_ns=time.time_ns(),
        )

    def move_to(self, pose: GripperPose) -> RobotState:
        """Move in a straight line to ``pose``, or the nearest place that can be had.

        Raises:
            RobotError: not finite, refused, stopped, not done in time, or no answer.
            SafetyFault: the controller has stopped by itself.
        """
        if not np.isfinite(pose.as_array()).all():
            raise RobotError(f"{self._site.name}: asked for a pose that is not finite: {pose}")
        with self._motion():
            self._asked_yaw_rad = pose.yaw_rad
            self._go(self._reach.to_controller(pose))
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
        """Rise, then go to the parking place; return when the fingers are still.

        Raises:
            RobotError: it did not get there: the hand would be in the picture.
        """
        with self._motion():
            self._park()
            await_still_fingers(self._gripper.opening_m, self._clock, self._site.beat)
        return self.state()

    def prepare_attempt(self) -> bool:
        """Stir the bin if ``shuffle`` is configured; True if it was. Nobody refills a real bin."""
        return self._shuffle(self) if self._shuffle is not None else False

    def nearest_reachable(self, pose: GripperPose) -> GripperPose:
        """Return ``pose`` where it can be had, else a pose near it that can; nothing moves."""
        return self._reach.nearest(pose)

    def bus_counters(self) -> BusCounters:
        """Return what happened on the controller's port since the arm was opened."""
        return self._controller.counters

    def checks(self) -> Iterator[CheckResult]:
        """Ask the controller for its firmware and its motors' supply."""
        try:
            yield ok("controller", f"firmware {self._controller.identify()}")
            if self._controller.has_power() is False:
                yield fail("motor supply", "off", "plug in the power brick and press its switch")
            else:
                yield ok("motor supply", "on, or not told by this firmware")
        except RobotError as error:
            yield fail("controller", str(error), "check cable, supply and robot.options.firmware")

    def stop(self) -> None:
        """Hold still where the arm is, from any state and any thread."""
        with self._gate.stopping(), ExitStack() as both:
            # The gripper too, when the controller does not answer.
            both.callback(self._gripper.hold)
            self._controller.stop()

    def close(self) -> None:
        """Park gently and let go of the port; the motors stay on. May be called twice.

        After a fault, an error or a stop it only holds; an arm that never moved is left alone.

        Raises:
            RobotError: it may not hold still; who guards the arm must see to it.
        """
        if self._is_closed:
            return
        self._is_closed = True
        with ExitStack() as parts:
            parts.callback(self._controller.close)
            parts.callback(self._gripper.disconnect)
            if self._gate.is_ready:
                self._try_to_park()
            if self._has_moved and not self._gate.is_ready:
                self.stop()

    def _try_to_park(self) -> None:
        try:
            with self._motion():
                self._park(CLOSING_SLOWDOWN)
        except RobotError as error:
            # Holding still where it is will do.
            logger.warning("%s: not parked: %s", self._site.name, error)

    def _motion(self) -> AbstractContextManager[None]:
        if self._ready_life != self._controller.life:
            self._gate.is_ready = False  # who asked for the firmware has met a new life
        return self._gate.motion(self._site.beat, self._make_ready)

    def _make_ready(self) -> None:
        self._controller.prepare()
        self._has_moved = True
        if self._ready_life != self._controller.life:
            if self._controller.needs_homing:
                self._controller.home()
            self._wrist.turn_to(WRIST_CENTRE_DEG)
            self._park(FIRST_SLOWDOWN)
            self._ready_life = self._controller.life

    def _here(self) -> GcodePose:
        x_m, y_m, z_m = self._controller.position_m()
        return GcodePose(x_m=x_m, y_m=y_m, z_m=z_m, wrist_deg=self._wrist.degrees)

    def _go(self, goal: GcodePose, slowdown: float = 1.0) -> None:
        """Turn the wrist, then go to a pose of the controller's frame: straight, or around what is
        too near to the axis.
        """
        self._wrist.turn_to(goal.wrist_deg)
        here = self._here()
        for place in self._reach.way(here, goal):
            self._controller.move(
                (place.x_m, place.y_m, place.z_m),
                speed_m_s=self._site.safety.max_speed_m_s / slowdown,
                length_m=math.dist(
                    (here.x_m, here.y_m, here.z_m), (place.x_m, place.y_m, place.z_m)
                ),
            )
            here = place

    def _park(self, slowdown: float = 1.0) -> None:
        """Rise to ``clearance_m`` if the hand is lower, then go to the parking place.

        Raises:
            RobotError: it is not there afterwards.
        """
        here = self._here()
        rise_to_m = self._options.clearance_m - self._options.mount.z_m
        if here.z_m < rise_to_m:
            self._go(replace(here, z_m=rise_to_m), slowdown)
        goal = replace(
            self._reach.to_controller(self._options.parking.pose), wrist_deg=self._wrist.degrees
        )
        self._go(goal, slowdown)
        here = self._here()
        off_m = math.dist((here.x_m, here.y_m, here.z_m), (goal.x_m, goal.y_m, goal.z_m))
        if off_m > PARKED_M:
            raise RobotError(
                f"{self._site.name}: {off_m * 1e3:.0f} mm from its parking place, at most "
                f"{PARKED_M * 1e3:.0f} allowed: is something in the arm's way?"
            )
