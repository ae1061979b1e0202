"""The servo gripper's board at the bytes of its cable, from the table of lines in docs/hardware.md.

A servo that follows its pulse late, whose current rises where the fingers meet something.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_STEP_S = 0.01


def with_seal(text: str) -> str:
    """Return a line as it goes over the wire, without its end."""
    total = 0
    for character in text:
        total ^= ord(character)
    return f"{text}*{total:02X}"


@dataclass(kw_only=True)
class EmulatedServoGripper:
    """The board and its servo; pulses 1000 (open) to 2000, readings 150 to 550."""

    hurry: float = 20.0
    says: str = "servo-gripper 1"
    object_at_us: float | None = None
    """Pulse at which the fingers meet something while closing."""
    goals: list[tuple[int, int, int]] = field(default_factory=list)
    pulse_us: float = 1500.0
    shaft_us: float = 1500.0
    """Where the servo really is."""
    motion: int = 0
    refused: int = 0
    """Lines whose checksum was wrong."""
    _goal: tuple[int, int, int] | None = None
    _now_s: float | None = None
    _unlived_s: float = 0.0
    _buffer: bytes = b""

    def receive(self, data: bytes, now_s: float) -> bytes:
        """Take bytes; return the answers."""
        self._pass_time(now_s)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        answers = (self._answer(line.decode("latin-1")) for line in lines)
        return "".join(f"{with_seal(answer)}\n" for answer in answers if answer).encode()

    def tick(self, now_s: float) -> bytes:
        """Move."""
        self._pass_time(now_s)
        return b""

    def restart(self) -> None:
        """Lose power for a moment: the servo stays where it is."""
        self._goal, self.motion, self.pulse_us = None, 0, self.shaft_us

    def _answer(self, line: str) -> str:
        text, _, seal = line.partition("*")
        if with_seal(text) != line or not seal:
            self.refused += 1
            return ""
        number, _, command = text.partition(" ")
        verb, *values = command.split(" ")
        return f"${number[1:]} {self._obey(verb, values)}"

    def _obey(self, verb: str, values: list[str]) -> str:
        if verb == "hello":
            return f"ok {self.says}"
        if verb == "read":
            return (
                f"ok F{round(150 + 0.4 * (self.shaft_us - 1000))} A{self._current_ma:.0f} "
                f"P{self.pulse_us:.0f} M{self.motion}"
            )
        if verb == "goal" and len(values) == 3:
            pulse, speed, limit = (int(value) for value in values)
            if not 500 <= pulse <= 2500:
                return "error: pulse out of range"
            self._goal, self.motion = (pulse, speed, limit), 1
            self.goals.append(self._goal)
            return "ok"
        if verb == "hold":
            if self.motion == 1:
                self._goal, self.motion = None, 0
            return "ok"
        return "error: unknown command"

    @property
    def _current_ma(self) -> float:
        """Grows as the fingers are pressed together."""
        return 60 + 20 * max(0.0, self.pulse_us - self.shaft_us)

    def _pass_time(self, now_s: float) -> None:
        # Whole steps alone: how far the fingers lag must not depend on how often it is asked.
        self._unlived_s += 0.0 if self._now_s is None else (now_s - self._now_s) * self.hurry
        self._now_s = now_s
        while self._unlived_s >= _STEP_S:
            self._step(_STEP_S)
            self._unlived_s -= _STEP_S

    def _step(self, step_s: float) -> None:
        if self.motion == 1 and self._goal is not None:
            pulse, speed, limit = self._goal
            if self._current_ma > limit:
                self.motion = 2
            else:
                left = pulse - self.pulse_us
                self.pulse_us += max(-speed * step_s, min(speed * step_s, left))
                self.motion = 0 if self.pulse_us == pulse else 1
        self.shaft_us += (self.pulse_us - self.shaft_us) * min(1.0, step_s / 0.03)
        if self.object_at_us is not None:
            self.shaft_us = min(self.shaft_us, self.object_at_us)
