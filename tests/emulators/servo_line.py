"""What emulated servos of any make share: a supply, mechanics, and faults to order."""

from __future__ import annotations

import argparse
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from tests.emulators.pty_port import PtyPort
from tests.emulators.servo_mechanics import Drive, FreeShafts, Mechanics, Shaft

SAG_V, SAG_S = 4.5, 0.2
LONGEST_STEP_S = 0.01


class EmulatedServo(Protocol):
    """One servo of a line."""

    servo_id: int
    is_missing: bool
    shaft: Shaft

    def drive(self) -> Drive:
        """Return what the motor is told to do."""
        ...

    def measure(self, shaft: Shaft, supply_v: float, dt_s: float) -> None:
        """Fill the registers of the present."""
        ...

    def reset(self) -> None:
        """Start as after a loss of power."""
        ...


Servo = TypeVar("Servo", bound=EmulatedServo)


class EmulatedLine(ABC, Generic[Servo]):
    """A pty_port.Device: servos by id, on one supply, with one mechanics behind them.

    In real time the port's ticks let time pass; otherwise only ``step`` does.
    """

    def __init__(
        self,
        servos: Iterable[Servo],
        *,
        mechanics: Mechanics | None = None,
        supply_v: float = 7.4,
        is_real_time: bool = True,
        echoes: bool = False,
    ) -> None:
        """Args: ``echoes`` makes the adapter repeat whatever it is sent."""
        self.servos = {servo.servo_id: servo for servo in servos}
        self.mechanics = mechanics or FreeShafts()
        self.supply_v = supply_v
        self.requests: list[bytes] = []
        """Every request that was understood, from id to the last parameter."""
        self.pace = 1.0
        """How many seconds of the motors pass in a real one."""
        self._is_real_time = is_real_time
        self._echoes = echoes
        self._arrived = bytearray()
        self._now_s: float | None = None
        self._sag_left_s: float | None = None
        self.step(0.0)

    def receive(self, data: bytes, now_s: float) -> bytes:
        """Take what arrived; return what the line carries then."""
        self._pass_time(now_s)
        self._arrived += data
        answers = data if self._echoes else b""
        while (request := self._next_request()) is not None:
            self.requests.append(request)
            answers += self._obey(request)
        return answers

    def tick(self, now_s: float) -> bytes:
        """Let time pass; servos never speak unasked."""
        self._pass_time(now_s)
        return b""

    def step(self, dt_s: float) -> None:
        """Let ``dt_s`` pass for all motors."""
        drives = {servo_id: servo.drive() for servo_id, servo in self.servos.items()}
        shafts = self.mechanics.step(drives, dt_s)
        self._sag(dt_s)
        voltage = self.supply_v if self._sag_left_s is None else SAG_V
        for servo_id, servo in self.servos.items():
            servo.measure(shafts[servo_id], voltage, dt_s)

    def report(self) -> str:
        """Return as JSON, by id, what each motor is told to do and what it does."""
        both = {
            servo_id: asdict(servo.drive()) | asdict(servo.shaft)
            for servo_id, servo in self.servos.items()
        }
        return json.dumps(both)

    def brown_out(self) -> None:
        """Let the supply sink; shortly after, every servo begins anew."""
        self._sag_left_s = SAG_S

    def _sag(self, dt_s: float) -> None:
        if self._sag_left_s is None:
            return
        self._sag_left_s -= dt_s
        if self._sag_left_s <= 0:
            self._sag_left_s = None
            for servo in self.servos.values():
                servo.reset()

    def _pass_time(self, now_s: float) -> None:
        if not self._is_real_time:
            return
        left_s = self.pace * (now_s - (now_s if self._now_s is None else self._now_s))
        self._now_s = now_s
        while left_s > 0:
            self.step(min(left_s, LONGEST_STEP_S))
            left_s -= LONGEST_STEP_S

    @abstractmethod
    def _next_request(self) -> bytes | None:
        """Cut the next whole request out of what arrived."""

    @abstractmethod
    def _obey(self, request: bytes) -> bytes:
        """Do what a request says; return all answers."""


def serve_until_stdin_ends(make_line: Callable[[Sequence[int]], EmulatedLine]) -> int:
    """Serve a line as a process; orders such as ``brown_out`` or ``unplug`` come line by line."""
    parser = argparse.ArgumentParser(description=serve_until_stdin_ends.__doc__)
    parser.add_argument("link", type=Path, help="path that becomes a link to the port")
    parser.add_argument("--ids", type=int, nargs="+", default=list(range(1, 7)))
    options = parser.parse_args()
    line = make_line(options.ids)
    with PtyPort(line, options.link) as port:
        print("ready", flush=True)
        for order in map(str.split, sys.stdin):
            print(_carry_out(order, line, port), flush=True)
    return 0


def _carry_out(order: list[str], line: EmulatedLine, port: PtyPort) -> str:
    match order:
        case ["report"]:
            return line.report()
        case ["pace", pace]:
            line.pace = float(pace)
        case ["brown_out"]:
            line.brown_out()
        case ["plug"]:
            port.plug()
        case ["unplug"]:
            port.unplug()
        case ["missing", servo_id]:
            line.servos[int(servo_id)].is_missing = True
        case ["back", servo_id]:
            line.servos[int(servo_id)].is_missing = False
        case ["temperature", servo_id, degrees]:
            line.servos[int(servo_id)].temperature_c = float(degrees)
        case ["overload", servo_id]:
            line.servos[int(servo_id)].overload()
        case [("is_babbling" | "strains") as fault, servo_id, count]:
            setattr(line.servos[int(servo_id)], fault, int(count))
        case [("silent" | "garbled" | "noisy" | "cut") as fault, count]:
            setattr(port.faults, fault, int(count))
        case _:
            raise SystemExit(f"unknown order {' '.join(order)!r}")
    return "done"
