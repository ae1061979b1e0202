"""A whole cell: an agent that grasps with an emulated SO-101, and the gateway it delivers to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.toml_text import toml_text
from learner.config import GatewayConfig
from learner.ingestion.gateway import Gateway
from protocol.configuration import load_toml
from protocol.errors import ConfigurationError
from protocol.hand_eye import pinhole_map
from protocol.messages import RobotStatus
from robot_agent.calibrating.calibration import Calibration, keep
from robot_agent.config import AgentConfig
from robot_agent.delivery.outbox import outbox_counts
from robot_agent.safety.stop_latch import StopLatch
from tests.delivery_site import ROOT, STORE_BYTES
from tests.emulated_arms.hurried_so101 import PACE
from tests.emulated_arms.so101_process import ArmProcess, so101_process
from tests.robot_agent.agent_process import make_table
from tests.robot_agent.cameras.recordings import write_folder
from tests.robot_agent.robots.emulated_arms import calibration_of
from tests.robot_agent.safety.moving_arm import guard_of
from tests.robot_agent.safety.test_guard import is_gone
from tests.waiting import wait_until

SO101 = "robot_agent.robots.so101:SO101"
HURRIED = "tests.emulated_arms.hurried_so101:HurriedSO101"
START_WITHIN_S = 120.0
MOVES_RAD_S = 0.3
SAFETY = {
    "max_speed_m_s": 2.0,
    "max_acceleration_m_s2": 20.0,
    "max_joint_speed_rad_s": 4.0,
    "max_joint_acceleration_rad_s2": 60.0,
    "hold_torque": 0.4,
    "max_grip": 0.5,
}
"""An arm as fast as its servos: the hardest to stop, and the soonest done with an attempt."""


class RobotCell:
    """The arm and the gateway go on while agents come and go."""

    def __init__(self, folder: Path, arm: ArmProcess, environment: Mapping[str, str]) -> None:
        self.arm = arm
        self.gateway: Gateway | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        self.state = folder / "robot" / "state"
        self._starts = 0
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._toml = folder / "robot" / "robot.toml"

    @property
    def latch(self) -> StopLatch:
        """What keeps the robot stopped."""
        return StopLatch(self.state)

    @property
    def log(self) -> str:
        """What all agents and guards said so far."""
        return (self._folder / "agent.log").read_text()

    def resume(self) -> None:
        """Have an agent whose arm moves in an attempt, as a person does who saw to the arm."""
        if self.agent is None or self.agent.poll() is not None:
            self._starts += 1
            self._start()
            wait_until(self._is_ready, "the agent is ready", START_WITHIN_S)
        self.await_motion()

    def calibrate(self) -> None:
        """Have the arm moved without an agent, as a person does who looks for its hand-eye map."""
        assert self.agent is None or self.agent.poll() is not None
        self._start("calibrate", "--only", "hand-eye", "--record-seconds", "0.1")
        self.await_motion()

    def _start(self, *command: str) -> None:
        self.latch.release(self.latch.stops())
        whole = [sys.executable, "-m", "robot_agent", *command, "--config", str(self._toml)]
        with (self._folder / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                whole, cwd=ROOT, stdout=log, stderr=log, env=self._environment
            )

    def _is_ready(self) -> bool:
        return self.log.count("robot-1: ready") == self._starts

    def attempts(self) -> int:
        """Return how many attempts are finished and on the robot's disk."""
        try:
            return outbox_counts(self.state).written
        except ConfigurationError:
            return 0

    def status(self) -> RobotStatus:
        """Return what the learner knows of the robot."""
        assert self.gateway is not None
        [robot] = self.gateway.status().robots
        return robot

    def await_attempts(self, more: int) -> None:
        """Wait until so many more attempts are finished."""
        wanted = self.attempts() + more
        wait_until(lambda: self.attempts() >= wanted, f"{more} more attempts", START_WITHIN_S)

    def await_motion(self) -> None:
        """Wait until the arm is on its way."""
        wait_until(lambda: self.arm.history().speed_rad_s > MOVES_RAD_S, "the arm moves")

    def start_gateway(self) -> None:
        """Run the gateway that the robot delivers to."""
        endpoint = load_toml(self._toml, AgentConfig).learner.gateways[0]
        config = GatewayConfig(
            bind=endpoint, store=self._folder / "store", max_store_bytes=STORE_BYTES
        )
        secret = self._folder / "keys" / "server.secret"
        self.gateway = Gateway(config, secret, self._folder / "registry")
        self.gateway.start()

    def stop_gateway(self) -> None:
        """End it; what it stored stays."""
        if self.gateway is not None:
            self.gateway.stop()
            self.gateway = None

    def close(self) -> None:
        """End the agent, its guard and the gateway."""
        if self.agent is not None and self.agent.poll() is None:
            guard = guard_of(self.agent)
            self.agent.kill()
            self.agent.wait()
            wait_until(lambda: is_gone(guard), "the guard ends")
        self.stop_gateway()


@contextmanager
def robot_cell(
    folder: Path,
    *,
    is_hurried: bool = False,
    camera: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    outbox: Mapping[str, Any] | None = None,
) -> Iterator[RobotCell]:
    """Start arm and gateway; ``resume`` starts an agent.

    Args:
        folder: for all files; an empty one.
        is_hurried: the arm's time passes faster than real: times measured then mean nothing.
        camera: its table in robot.toml; a recording by default.
        environment: of the agents, besides this process's own.
        outbox: its table in robot.toml.
    """
    write_robot(folder, HURRIED if is_hurried else SO101, camera or recording(folder), outbox)
    with so101_process(folder / "port") as arm:
        arm.order(f"pace {PACE if is_hurried else 1.0}")
        cell = RobotCell(folder, arm, environment or {})
        try:
            cell.start_gateway()
            yield cell
        finally:
            cell.close()


def recording(folder: Path) -> dict[str, Any]:
    """Return the table of a camera that gives eight pictures again and again."""
    pictures = write_folder(folder / "pictures", 8)
    driver = "robot_agent.cameras.recorded:RecordedCamera"
    return {"driver": driver, "options": {"path": str(pictures), "fps": 0.0}}


def write_robot(
    folder: Path,
    driver: str,
    camera: Mapping[str, Any],
    outbox: Mapping[str, Any] | None = None,
) -> None:
    """Write the files of a robot whose joints and camera are calibrated."""
    table = make_table(folder) | {
        "max_attempts": 0,
        "robot": {
            "driver": driver,
            # The emulator shares a busy machine with the rest.
            "options": {"port": str(folder / "port"), "reply_timeout_s": 0.1},
        },
        "camera": dict(camera),
        "safety": SAFETY,
        "outbox": dict(outbox or {}),
    }
    toml = folder / "robot" / "robot.toml"
    toml.write_text(toml_text(table))
    config = load_toml(toml, AgentConfig)
    config.state_folder.mkdir()
    calibration_of("so101").write(config.state_folder)
    truth = pinhole_map(**table["camera_description"], aspect=1.0)
    keep(Calibration(hand_eye_map=truth, residual=0.0, trusted=True), config)
