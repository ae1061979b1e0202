"""Drivers for a fleet whose agents believe that they hold real arms, and one to compare it with.

``EmulatedSO101`` is the SO-101's own driver: its bytes go through pyserial and a pseudo-terminal to
emulated servos, which turn the joints of an arm over a simulated bin. Time is simulated, so that it
runs as fast as the machine can. ``fleet demo --robot tests.emulated_arms.robots:EmulatedSO101
--camera tests.emulated_arms.robots:BinCamera`` takes it as any other robot.
"""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from protocol.episode import ReferenceOutcome
from protocol.errors import ConfigurationError
from robot_agent.arms.clock import Clock
from robot_agent.cameras.simulated import SimulatedCamera
from robot_agent.robots.base import GripperModel, Robot, RobotSite
from robot_agent.robots.simulated import SimulatedRobot, randomised_options
from robot_agent.robots.simulated.hand import GRIPPER
from robot_agent.robots.simulated.truth import grasp_truth, nearest_object
from robot_agent.robots.so101 import SO101
from tests.emulated_arms.arm_in_bin import ArmInBin
from tests.emulators.feetech_servos import FeetechLine, FeetechServo
from tests.emulators.pty_port import PtyPort
from tests.robot_agent.robots.emulated_arms import IDS, LineClock, calibration_of

REPLY_TIMEOUT_S = 1.0
"""The emulator shares a busy machine with the rest of the fleet."""


class EmulatedSO101(SO101):
    """An SO-101 whose servos are emulated; satisfies InstrumentedRobot as the simulator does."""

    bin: SimulatedRobot
    """What the arm reaches into; its own motors stand still."""
    line: FeetechLine
    port: PtyPort
    _parts: ExitStack
    _closed_at: tuple[int, NDArray[np.float64]] | None = None

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite, clock: Clock | None = None) -> Self:
        """Fill a bin, put an arm of emulated servos over it, and connect to these.

        Args:
            options: of the simulated robot, over those that the fleet's seed draws.
            site: its state folder gets the emulated servos' calibration.
            clock: none, for there is only simulated time.
        """
        assert clock is None
        with ExitStack() as parts:
            simulated = SimulatedRobot.open({**drawn_options(site), **options}, site)
            calibration = calibration_of("so101")
            calibration.write(site.state_folder)
            line = FeetechLine(
                [FeetechServo(servo_id=one) for one in IDS["so101"]],
                mechanics=ArmInBin(simulated, calibration),
                is_real_time=False,
            )
            folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
            port = parts.enter_context(PtyPort(line, folder / "port"))
            place = simulated.options.arm_place
            own = {
                "port": str(port.path),
                "reply_timeout_s": REPLY_TIMEOUT_S,
                "mount": place.mount,
                "parking": place.parking,
                "max_opening_m": GRIPPER.max_opening_m,
            }
            arm = super().open(own, site, LineClock(line))
            arm.bin, arm.line, arm.port = simulated, line, port
            arm._parts = parts.pop_all()
        return arm

    @property
    def gripper(self) -> GripperModel:
        """The simulated hand that the arm carries."""
        return GRIPPER

    def prepare_attempt(self) -> bool:
        """Refill the bin as the simulator does; the arm is parked."""
        self._closed_at = None
        return self.bin.prepare_attempt()

    def close_gripper(self) -> float:
        """See Robot."""
        scene = self.bin.scene
        opening_m = super().close_gripper()
        heights = scene.data.xipos[scene.object_bodies, 2].copy()
        self._closed_at = nearest_object(scene, scene.hand_position()[:3]), heights
        return opening_m

    def reference_outcome(self) -> ReferenceOutcome:
        """Say what is held now, from the simulator's own contacts."""
        scene = self.bin.scene
        now = scene.data.xipos[scene.object_bodies, 2]
        nearest, heights = self._closed_at or (None, now)
        return grasp_truth(scene, heights, nearest, scene.hand_position()[:3])

    def close(self) -> None:
        """See Robot."""
        super().close()
        self._parts.close()


class DirectSO101(SimulatedRobot):
    """The same robots, bins and arm, moved by the simulator itself."""

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite | None = None) -> Self:
        """See EmulatedSO101.open."""
        assert site is not None
        return super().open({**drawn_options(site), **options}, site)


class BinCamera:
    """Looks into the bin of either."""

    @classmethod
    def open(
        cls, options: Mapping[str, Any], *, width_px: int, height_px: int, robot: Robot
    ) -> SimulatedCamera:
        """See Camera.open."""
        seen = robot.bin if isinstance(robot, EmulatedSO101) else robot
        return SimulatedCamera.open(options, width_px=width_px, height_px=height_px, robot=seen)


def drawn_options(site: RobotSite) -> dict[str, Any]:
    """Return the options of one of a fleet's robots, as ``fleet demo`` draws them by its seed."""
    file = site.state_folder.parent / "robot.toml"
    try:
        seed = tomllib.loads(file.read_text())["seed"]
    except (OSError, KeyError) as error:
        raise ConfigurationError(f"{file}: gives no seed: {error}") from error
    return {**randomised_options(seed, "camera-and-wear"), "seed": seed, "arm": "so101"}
