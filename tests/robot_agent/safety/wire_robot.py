"""A robot whose motors hang on a serial line, and a process that moves it: for tests of the guard.

As a program it is that process: ``python -m tests.robot_agent.safety.wire_robot FOLDER``.
"""

from __future__ import annotations

import itertools
import logging
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

import serial

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, GraspFleetError, RobotError, SafetyFault
from robot_agent.closing import ClosingStack
from robot_agent.config import (
    AgentConfig,
    CameraConfig,
    CameraDescription,
    DriverConfig,
    LearnerEndpointConfig,
    SafetyConfig,
    WorkspaceConfig,
)
from robot_agent.drivers import open_robot
from robot_agent.robots.base import RobotSite, RobotState, unwatched
from robot_agent.safety.emergency_stop import EmergencyStop
from robot_agent.safety.stop_latch import StopLatch
from robot_agent.safety.watchdog import Watchdog
from robot_agent.safety.watched_parts import Watch
from tests.robot_agent.drawn_robot import CAMERA, FOV_DEG, DrawnRobot

DRIVER = "tests.robot_agent.safety.wire_robot:WireRobot"
CYCLE_S = 0.005
POSES = [GripperPose(x_m=0.0, y_m=y_m, z_m=0.1, yaw_rad=0.0) for y_m in (0.06, -0.06)]
MAY_HOLD = "may-hold"
SET_POINT, HOLD, STOPPED, CLOSED = b"move", b"hold", b"stop", b"close"


class WireRobot(DrawnRobot):
    """Its motors take a line per cycle; a motion takes ``motion_s`` of real time."""

    def __init__(
        self,
        port: str,
        site: RobotSite | None,
        motion_s: float,
        hangs: int,
        *,
        is_stop_failing: bool,
        is_close_failing: bool,
    ) -> None:
        super().__init__()
        self._is_stop_failing = is_stop_failing
        self._is_close_failing = is_close_failing
        try:
            self._port = serial.Serial(port, exclusive=True)
        except serial.SerialException as error:
            raise RobotError(f"{port}: {error}") from error
        self._beat = site.beat if site is not None else unwatched
        self._motion_s = motion_s
        self._motions_until_it_hangs = hangs
        self._is_stopped = threading.Event()

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite | None = None) -> Self:
        """Options: ``port``; ``motion_s``; ``hangs``: the motion that never ends, 0 for none;
        ``stop_fails``: its port is taken; ``close_fails``: it may not be in its safe state;
        ``hold_waits``: for the file MAY_HOLD.
        """
        return cls(
            options["port"],
            site,
            options.get("motion_s", 0.1),
            options.get("hangs", 0),
            is_stop_failing=bool(options.get("stop_fails", 0)),
            is_close_failing=bool(options.get("close_fails", 0)),
        )

    @classmethod
    def hold(cls, options: Mapping[str, Any], site: RobotSite) -> None:
        while options.get("hold_waits") and not Path(options["port"]).with_name(MAY_HOLD).exists():
            time.sleep(0.01)
        robot = cls.open(options)
        robot._say(HOLD)
        robot._port.close()

    def move_to(self, pose: GripperPose) -> RobotState:
        self._is_stopped.clear()
        self._motions_until_it_hangs -= 1
        end_s = time.monotonic() + self._motion_s
        while time.monotonic() < end_s or self._motions_until_it_hangs == 0:
            if self._is_stopped.is_set():
                raise RobotError("stopped in the middle of a motion")
            if self._motions_until_it_hangs != 0:
                self._beat()
            self._say(SET_POINT)
            time.sleep(CYCLE_S)
        return super().move_to(pose)

    def stop(self) -> None:
        if self._is_stop_failing:
            raise ConfigurationError("another program has the port")
        self._is_stopped.set()
        self._say(STOPPED)

    def close(self) -> None:
        if self._port.is_open:
            self._say(CLOSED)
            self._port.close()
            if self._is_close_failing:
                raise RobotError("the arm may not hold still")

    def _say(self, line: bytes) -> None:
        try:
            self._port.write(line + b"\n")
        except serial.SerialException as error:
            raise RobotError(f"the cable is out: {error}") from error


def wire_config(
    folder: Path, port: Path, *, stall_s: float = 5.0, driver: str = DRIVER, **options: Any
) -> AgentConfig:
    """Return what an agent of a WireRobot, or another one on a line, is configured with."""
    return AgentConfig(
        name="robot-1",
        state_folder=folder,
        secret_key=folder / "robot.secret",
        robot=DriverConfig(driver=driver, options={"port": str(port), **options}),
        camera=CameraConfig(driver="tests.robot_agent.drawn_robot:DrawnCamera"),
        workspace=WorkspaceConfig(x_m=(-0.1, 0.1), y_m=(-0.07, 0.07), z_m=(0.0, 0.14)),
        safety=SafetyConfig(stall_s=stall_s),
        camera_description=CameraDescription(**CAMERA, vertical_fov_deg=FOV_DEG),
        learner=LearnerEndpointConfig(
            episodes="tcp://127.0.0.1:1",
            releases="tcp://127.0.0.1:2",
            public_key=folder / "server.public",
            release_key=folder / "release.public",
        ),
    )


class FrozenCamera:
    """Gives neither a picture nor an error."""

    def capture(self) -> NoReturn:
        while True:
            time.sleep(1.0)


def move_until_stopped(
    config: AgentConfig, stopping: threading.Event, rest_s: float, frozen_after: int
) -> None:
    """Move and rest in turn, under all that keeps a real agent's arm safe."""
    with EmergencyStop(config.name, StopLatch(config.state_folder)) as emergency:
        emergency.heed_signal()
        emergency.wakes(stopping)
        # As the agent does: what fails at the end hides nothing that was wrong before.
        with ClosingStack() as parts:
            watchdog = Watchdog.start(config)
            parts.closes("guard", watchdog.close)
            watch = Watch(watchdog, emergency)
            robot = watch.watched_robot(open_robot(config, watch.beat))
            parts.closes("robot", robot.close)
            for number, pose in enumerate(itertools.cycle(POSES), start=1):
                if stopping.wait(rest_s):
                    break
                with watch.attempt():
                    robot.move_to(pose)
                    if number == frozen_after:
                        watch.watched_camera(FrozenCamera()).capture()
            emergency.check()


def main() -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopping = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stopping.set())
    folder, stall_s = Path(sys.argv[1]), float(sys.argv[2])
    said = dict(one.split("=") for one in sys.argv[3:])
    driver, rest_s = said.pop("driver", DRIVER), float(said.pop("rest_s", 0.01))
    frozen_after = int(said.pop("frozen_after", 0))
    options = {key: float(value) for key, value in said.items()}
    config = wire_config(folder, folder / "port", stall_s=stall_s, driver=driver, **options)
    try:
        move_until_stopped(config, stopping, rest_s, frozen_after)
    except SafetyFault as fault:
        sys.stderr.write(f"{fault}\n")
        sys.exit(3)
    except GraspFleetError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
