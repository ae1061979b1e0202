"""A G-code arm's controller at the bytes of its cable: uArm firmware 4 and 3, and Marlin.

Written from the makers' list of commands; see docs/hardware.md for the words.
"""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass, field

_WORD = re.compile(r"([A-Z])(-?\d+(?:\.\d+)?)")
_STOP = b"\x18"


@dataclass(kw_only=True)
class EmulatedGcodeController:
    """The arm; ``hurry`` makes it faster than a real one."""

    firmware: str = "uarm-4"
    hurry: float = 50.0
    tip_mm: list[float] = field(default_factory=lambda: [150.0, 60.0, 40.0])
    reach_mm: tuple[float, float] = (50.0, 320.0)
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Where the board believes its zero to be; wrong once a Marlin has forgotten it."""
    wrist_deg: float = 90.0
    holds_something: bool = False
    """Whether the fingers would meet something."""
    is_closed: bool = False
    has_power: bool = True
    are_motors_on: bool = False
    blocked_below_mm: float = -1000.0
    """The tip gets no lower, as over an obstacle."""
    emergency_parser: bool | None = True
    """Whether Marlin reads a stop at once; None is a firmware that does not tell."""
    acceleration: str = ""
    is_to_restart: bool = False
    """Loses its supply for a moment, as soon as possible."""
    is_to_restart_in_motion: bool = False
    """The same, in the middle of the next motion."""
    commands: list[str] = field(default_factory=list)
    """Everything that was understood, in the order of arrival."""
    feeds_mm_min: list[float] = field(default_factory=list)
    stops: int = 0
    tips_mm: list[tuple[float, ...]] = field(default_factory=list)
    """Where each motion ended."""
    _goal: list[float] | None = None
    _feed_mm_s: float = 0.0
    _waiting: deque[str] = field(default_factory=deque)
    """Answers that are due when the arm stands still."""
    _said: list[str] = field(default_factory=list)
    _now_s: float | None = None
    _buffer: bytes = b""

    @property
    def is_moving(self) -> bool:
        """Whether the tip is on its way."""
        return self._goal is not None

    @property
    def true_tip_mm(self) -> list[float]:
        """Where the tip is, whatever the board believes."""
        return [zero + tip for zero, tip in zip(self.origin_mm, self.tip_mm, strict=True)]

    def _restart(self) -> None:
        """Motors off, and a Marlin takes where it is for its zero."""
        self.is_to_restart = self.is_to_restart_in_motion = False
        self._goal, self._buffer, self.are_motors_on = None, b"", False
        self._waiting.clear()
        if self.firmware != "marlin":
            self.say("@1")
            return
        x, y, z = self.true_tip_mm
        self.origin_mm, self.tip_mm = (x, y, z), [0.0, 0.0, 0.0]
        # What a line says while it has no supply stands before it.
        self._said += ["\x00\xffstart", "echo:Marlin 2.1.2"]

    def say(self, line: str) -> None:
        """Say something unasked, as soon as possible."""
        self._said.append(line)

    def receive(self, data: bytes, now_s: float) -> bytes:
        """Take bytes; return the answers."""
        self._pass_time(now_s)
        if self.firmware == "uarm-4" and _STOP in data:
            self._stop()
            data = data.replace(_STOP, b"")
            self.say("ok")
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._take(line.decode("latin-1").strip())
        return self._spoken()

    def tick(self, now_s: float) -> bytes:
        """Move, and say what is due."""
        self._pass_time(now_s)
        return self._spoken()

    def _spoken(self) -> bytes:
        if self._goal is None:
            self._said.extend(self._waiting)
            self._waiting.clear()
        lines, self._said = self._said, []
        return "".join(f"{line}\r\n" for line in lines).encode("latin-1")

    def _take(self, line: str) -> None:
        number = ""
        if self.firmware != "marlin" and (match := re.match(r"#(\d+) ?(.*)", line)):
            number, line = f"${match[1]} ", match[2]
        head, _, rest = line.partition(" ")
        words = {letter: float(value) for letter, value in _WORD.findall(rest)}
        answer = self._answer_to(head, words, line)
        if answer is None:
            answer = "E20" if self.firmware != "marlin" else f'echo:Unknown command: "{line}"\r\nok'
        else:
            self.commands.append(line)
        is_late = self.firmware == "uarm-4" and head[:1] in ("G", "M")
        (self._waiting if is_late or head == "M400" else self._said).append(number + answer)

    def _answer_to(self, head: str, words: dict[str, float], line: str) -> str | None:
        if head in ("G0", "G1"):
            return self._move(words)
        if self.firmware == "marlin":
            return self._marlin(head, words, line)
        return self._uarm(head, words, line)

    def _uarm(self, head: str, words: dict[str, float], line: str) -> str | None:
        x, y, z = self.tip_mm
        if head == "G2202" and words.get("N") == 3:
            self.wrist_deg = words["V"]
            return "ok"
        if head in ("M17", "M204", "M410", "M2231", "M2232"):
            return self._setting(head, words, line)
        state = (2 if self.holds_something else 1) if self.is_closed else 0
        version = {"uarm-4": "4.9.0", "uarm-3": "V3.2.0"}[self.firmware]
        answers = {
            "P2203": f"ok {version}",
            "P2220": f"ok X{x:.4f} Y{y:.4f} Z{z:.4f}",
            "P2206": f"ok V{self.wrist_deg:.4f}",
            "P2231": f"ok V{state}",
            "P2232": f"ok V{state}",
            "P2234": f"ok V{int(self.has_power)}",
        }
        if self.firmware == "uarm-3":
            answers["M2200"] = f"ok V{int(self.is_moving)}"
        return answers.get(head)

    def _marlin(self, head: str, words: dict[str, float], line: str) -> str | None:
        x, y, z = self.tip_mm
        if head == "M280":
            self.wrist_deg = words["S"]
            return "ok"
        if head == "G28":
            self.origin_mm, self.tip_mm = (0.0, 0.0, 0.0), [200.0, 0.0, 150.0]
            self.say("echo:busy: processing")
            return "ok"
        if head in ("M17", "M84", "M204", "M410", "G21", "G90"):
            return self._setting(head, words, line)
        if head == "M400":
            self.say("echo:busy: processing")
            return "ok"
        parser = self.emergency_parser
        told = "" if parser is None else f"Cap:EEPROM:1\r\nCap:EMERGENCY_PARSER:{parser:d}\r\n"
        answers = {
            "M115": f"FIRMWARE_NAME:Marlin 2.1.2 MACHINE_TYPE:arm\r\n{told}ok",
            "M114": f"X:{x:.2f} Y:{y:.2f} Z:{z:.2f} E:0.00 Count X:0 Y:0 Z:0\r\nok",
        }
        return answers.get(head)

    def _setting(self, head: str, words: dict[str, float], line: str) -> str | None:
        if head == "M410":
            if self.firmware == "uarm-4":
                return None
            self._stop()
        elif head == "M17":
            self.are_motors_on = True
        elif head == "M204":
            self.acceleration = line
        elif head in ("M2231", "M2232"):
            self.is_closed = bool(words["V"])
        return "ok"

    def _move(self, words: dict[str, float]) -> str:
        if self.firmware == "uarm-3" and not self.has_power:
            return "E24"
        goal = [words.get(axis, now) for axis, now in zip("XYZ", self.tip_mm, strict=True)]
        low, high = self.reach_mm
        if not low <= math.hypot(goal[0], goal[1]) <= high:
            return "E22" if self.firmware != "marlin" else "Error:out of reach\r\nok"
        self.feeds_mm_min.append(words["F"])
        self._goal, self._feed_mm_s = goal, words["F"] / 60
        return "ok"

    def _stop(self) -> None:
        self.stops += 1
        self._goal = None
        self._waiting.clear()
        # As after a reset: the motors have to be switched on again.
        self.are_motors_on = self.firmware != "uarm-4"

    def _pass_time(self, now_s: float) -> None:
        passed_s = 0.0 if self._now_s is None else (now_s - self._now_s) * self.hurry
        self._now_s = now_s
        if self.is_to_restart or (self.is_to_restart_in_motion and self.is_moving):
            self._restart()
        if self._goal is None or not (self.has_power and self.are_motors_on):
            return
        left_mm = math.dist(self.tip_mm, self._goal)
        step_mm = self._feed_mm_s * passed_s
        share = 1.0 if left_mm <= step_mm else step_mm / left_mm
        self.tip_mm = [
            now + share * (goal - now) for now, goal in zip(self.tip_mm, self._goal, strict=True)
        ]
        self.tip_mm[2] = max(self.tip_mm[2], self.blocked_below_mm)
        if share == 1.0:
            self._goal = None
            self.tips_mm.append(tuple(self.tip_mm))
