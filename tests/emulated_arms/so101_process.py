"""An SO-101 of emulated servos in a process of its own: it outlives the agent that drives it.

python -m tests.emulated_arms.so101_process LINK

Besides obeying the orders of every line of servos, it notes when its arm came to rest and how much
torque it was allowed, by its servos' own registers.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from robot_agent.robots.so101 import JAW_ID, JOINT_IDS
from tests.delivery_site import ROOT
from tests.emulators.feetech_servos import RAD, FeetechLine, FeetechServo
from tests.emulators.servo_line import serve_until_stdin_ends
from tests.emulators.servo_mechanics import FreeShafts, Shaft
from tests.robot_agent.robots.emulated_arms import NEARLY_PARKED_RAD, calibration_of

AT_GOAL_RAD = 4 * RAD
STILL_RAD_S = 0.01
REMEMBERED = 50


class History(msgspec.Struct, kw_only=True):
    """What became of the joints. Moments are the monotonic clock's, which all processes share."""

    torque: float = 0.0
    """The highest that one is allowed now, share of the stall torque; 0 while one is off."""
    torques: list[tuple[float, float]] = msgspec.field(default_factory=list)
    """When that changed, and to what."""
    jaw_torque: float = 0.0
    """The same of the gripper's motor."""
    speed_rad_s: float = 0.0
    """Of the fastest."""
    is_at_rest: bool = False
    """All are switched on and stand still where they were told to be."""
    rests_s: list[float] = msgspec.field(default_factory=list)
    """When they came to rest."""
    positions_rad: list[float] = msgspec.field(default_factory=list)

    def note(self, servos: list[FeetechServo]) -> None:
        """Take what the servos are told and measure now."""
        now_s, drives = time.monotonic(), [servo.drive() for servo in servos]
        are_on = all(drive.is_on for drive in drives)
        torque = max(drive.max_torque for drive in drives) if are_on else 0.0
        if torque != self.torque:
            self.torque = torque
            self.torques = [*self.torques, (now_s, torque)][-REMEMBERED:]
        self.positions_rad = [servo.shaft.position_rad for servo in servos]
        self.speed_rad_s = max(abs(servo.shaft.velocity_rad_s) for servo in servos)
        apart_rad = [abs(d.goal_rad - p) for d, p in zip(drives, self.positions_rad, strict=True)]
        is_still = self.speed_rad_s <= STILL_RAD_S and max(apart_rad) <= AT_GOAL_RAD
        if are_on and is_still and not self.is_at_rest:
            self.rests_s = [*self.rests_s, now_s][-REMEMBERED:]
        self.is_at_rest = are_on and is_still


class NotedSO101(FeetechLine):
    """An arm of free shafts, nearly parked, with its jaw open."""

    def __init__(self) -> None:
        calibration, shafts = calibration_of("so101"), FreeShafts()
        assert calibration.gripper is not None
        start_rad = calibration.motors_from_joints(np.array(NEARLY_PARKED_RAD["so101"]))
        for servo_id, position_rad in zip(JOINT_IDS, start_rad.tolist(), strict=True):
            shafts.shafts[servo_id] = Shaft(position_rad=position_rad)
        jaw = calibration.gripper
        shafts.shafts[JAW_ID] = Shaft(position_rad=jaw.open_rad)
        shafts.blocks[JAW_ID] = (jaw.closed_rad, jaw.open_rad)
        self._history = History()
        servos = [FeetechServo(servo_id=one) for one in (*JOINT_IDS, JAW_ID)]
        super().__init__(servos, mechanics=shafts)

    def step(self, dt_s: float) -> None:
        """Let time pass, and note what came of it."""
        super().step(dt_s)
        jaw = self.servos[JAW_ID].drive()
        self._history.jaw_torque = jaw.max_torque if jaw.is_on else 0.0
        self._history.note([self.servos[one] for one in JOINT_IDS])

    def report(self) -> str:
        """Return the joints' history as JSON."""
        return msgspec.json.encode(self._history).decode()


@dataclass(frozen=True)
class ArmProcess:
    """The other end of its orders."""

    orders: IO[str]
    answers: IO[str]

    def order(self, order: str) -> str:
        """Have it carried out; return what is said then."""
        self.orders.write(f"{order}\n")
        self.orders.flush()
        return self.answers.readline()

    def history(self) -> History:
        """Ask what became of the joints."""
        return msgspec.json.decode(self.order("report"), type=History)


@contextmanager
def so101_process(link: Path) -> Iterator[ArmProcess]:
    """Start the process; yield it once its port is there."""
    command = [sys.executable, "-m", "tests.emulated_arms.so101_process", str(link)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        # It ends when its orders do.
        yield ArmProcess(process.stdin, process.stdout)


if __name__ == "__main__":
    sys.exit(serve_until_stdin_ends(lambda _: NotedSO101()))
