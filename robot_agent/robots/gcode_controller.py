"""GcodeController: what a G-code arm is told and asked, in metres, and its errors in words."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

from protocol.errors import ConfigurationError, PoseUnknownError, RobotError, SafetyFault
from robot_agent.arms.clock import Clock
from robot_agent.arms.motion_gate import MotionGate
from robot_agent.robots.base import RobotSite
from robot_agent.robots.gcode_dialect import (
    ERROR_WORDS,
    GcodeDialect,
    major_version,
    position_m,
    value_of,
)
from robot_agent.serial_bus.line_format import Answer, Line, LineKind
from robot_agent.serial_bus.lines import LinePort
from robot_agent.serial_bus.port import BusCounters

logger = logging.getLogger(__name__)

ANSWER_S = 0.5
POLL_S = 0.02
BOOT_TRIES = 10
"""Opening the port restarts most boards; they answer a few seconds later."""
MARGIN_S = 5.0
"""A motion may take so much longer than its speed says."""
HOMING_S = 90.0


class GcodeController:
    """Motions from one thread; ``stop`` from any."""

    def __init__(
        self,
        lines: LinePort,
        dialect: GcodeDialect,
        *,
        site: RobotSite,
        gate: MotionGate,
        clock: Clock,
    ) -> None:
        self._lines = lines
        self._dialect = dialect
        self._site = site
        self._gate = gate
        self._clock = clock
        self._life = 0
        self._homed_life = -1

    @property
    def life(self) -> int:
        """Which life of the board all is meant for, and believed of, until ``prepare`` begins the
        next: a board that restarts knows nothing of what it was told, not even where its zero is.
        """
        return self._life

    @property
    def counters(self) -> BusCounters:
        """What happened on the board's port so far."""
        return self._lines.counters

    def identify(self) -> str:
        """Return what the firmware says it is, once the board has started.

        Raises:
            ConfigurationError: it is of another family than configured, it cannot be stopped in a
                motion, or the port is in use.
            RobotError: nothing answers.
        """
        self._lines.open()
        answer = self._lines.ask(self._dialect.identify, timeout_s=ANSWER_S, tries=BOOT_TRIES)
        # What it said while it started is old news.
        self._lines.unasked()
        self._life = self._lines.lives
        found, wanted = major_version(answer), self._dialect.major
        if wanted is not None and found != wanted:
            raise ConfigurationError(
                f"{self._site.name}: the controller's firmware is {answer.text!r}, but "
                f"robot.options.firmware asks for version {wanted}: set it to "
                f"'uarm-{found}' if that is one of the known ones, or update the firmware"
            )
        self._check_stop(answer)
        said = [note for note in answer.notes if not note.startswith("Cap:")]
        return " ".join((*said, answer.text)).strip()

    def prepare(self) -> None:
        """Await a board that has restarted; switch the motors on where the arm is, and limit its
        acceleration.

        Raises:
            RobotError: a motor supply that is off, or no answer.
        """
        self._lines.open()
        self._lines.ask(
            self._dialect.identify, timeout_s=ANSWER_S, tries=BOOT_TRIES, passing=self._passing
        )
        self._life = self._lines.lives
        if self.has_power() is False:
            raise RobotError(f"{self._site.name}: {ERROR_WORDS['E24']}")
        for command in self._dialect.prepare:
            self._command(command)
        mm_s2 = math.floor(self._site.safety.max_acceleration_m_s2 * 1000)
        self._command(self._dialect.acceleration.format(mm_s2=max(1, mm_s2)))

    @property
    def needs_homing(self) -> bool:
        """Whether the arm has to look for its zero after switching on."""
        return self._dialect.home is not None

    def home(self) -> None:
        """Look for the zero by the limit switches. Raises RobotError if that fails."""
        assert self._dialect.home is not None
        self._command(self._dialect.home, timeout_s=HOMING_S, tries=1)
        self._finish(HOMING_S)
        self._homed_life = self._life

    def move(self, xyz_m: tuple[float, float, float], *, speed_m_s: float, length_m: float) -> None:
        """Go straight to a place in the controller's frame; returns when the arm is there.

        Args:
            xyz_m: x, y, z of the tip.
            speed_m_s: of the tip.
            length_m: of the way, for how long it may take.

        Raises:
            RobotError: refused, stopped, or not done in time.
            SafetyFault: the controller has stopped by itself.
        """
        x_m, y_m, z_m = xyz_m
        command = self._dialect.move((x_m * 1000, y_m * 1000, z_m * 1000), speed_m_s * 60_000)
        limit_s = length_m / speed_m_s + speed_m_s / self._site.safety.max_acceleration_m_s2
        self._command(command, timeout_s=limit_s + MARGIN_S, tries=1)
        self._finish(limit_s + MARGIN_S)
        # A stopped arm is at rest as well.
        with self._passing():
            pass

    def turn_wrist(self, degrees: float) -> None:
        """Give the wrist's servo a new goal; returns at once."""
        self._command(self._dialect.wrist.format(degrees=degrees))

    def wait(self, duration_s: float) -> None:
        """Let time pass within a motion. Raises RobotError once the robot is stopped."""
        end_s = self._clock.monotonic_s() + duration_s
        while (left_s := end_s - self._clock.monotonic_s()) > 0:
            with self._passing():
                pass
            self._clock.sleep(min(POLL_S, left_s))

    def switch(self, command: str) -> None:
        """Switch a tool. Raises RobotError if that is refused."""
        self._command(command)

    def position_m(self) -> tuple[float, float, float]:
        """Return x, y, z of the tip in the controller's frame.

        Raises:
            PoseUnknownError: the arm has not looked for its zero since its board started.
            RobotError: no answer, or none with a position.
        """
        if self.needs_homing and self._homed_life != self._life:
            raise PoseUnknownError(
                f"{self._site.name}: where the hand is nobody knows: the arm looks for its zero in "
                "its next motion"
            )
        answer = self._query(self._dialect.position)
        position = position_m(answer)
        if position is None:
            raise RobotError(
                f"{self._site.name}: the controller answered {answer.text!r} when asked for its "
                "position: is robot.options.firmware right?"
            )
        return position

    def wrist_deg(self) -> float | None:
        """Return the angle that the wrist's servo was told last; None if the board cannot tell."""
        asked = self._dialect.wrist_angle
        return None if asked is None else self.value(asked)

    def value(self, query: str) -> float:
        """Return the number that the controller answers with. Raises RobotError without one."""
        answer = self._query(query)
        value = value_of(answer)
        if value is None:
            raise RobotError(
                f"{self._site.name}: the controller answered {answer.text!r} to {query}, which is "
                "no number: is robot.options.firmware right?"
            )
        return value

    def has_power(self) -> bool | None:
        """Return whether the motors have their supply; None if the controller cannot tell."""
        return None if self._dialect.power is None else self.value(self._dialect.power) == 1

    def stop(self) -> None:
        """End every motion at once and hold still with the motors on; from any thread."""
        self._lines.send_now(self._dialect.stop)
        # The stop may have let the motors go, as does a board that restarts when it is opened.
        self._lines.ask(self._dialect.prepare[0], timeout_s=ANSWER_S, tries=BOOT_TRIES)

    def close(self) -> None:
        """Let go of the port. May be called twice."""
        self._lines.close()

    def _check_stop(self, answer: Answer) -> None:
        """Refuse a firmware that reads a stop only behind the motion that it should end."""
        needed = self._dialect.stop_capability
        if needed is None or needed in answer.notes:
            return
        # Of a board that was starting the first answer may have begun before it was asked again.
        if needed not in self._query(self._dialect.identify).notes:
            raise ConfigurationError(
                f"{self._site.name}: the controller stops only after a motion has ended: its "
                f"answer to {self._dialect.identify} does not say {needed}; build its firmware "
                "with EMERGENCY_PARSER"
            )

    def _finish(self, limit_s: float) -> None:
        """Wait until all that was commanded is done."""
        if self._dialect.finish is not None:
            self._command(self._dialect.finish, timeout_s=limit_s, tries=1)
        elif self._dialect.still is not None:
            end_s = self._clock.monotonic_s() + limit_s
            while self.value(self._dialect.still):
                if self._clock.monotonic_s() > end_s:
                    raise RobotError(f"{self._site.name}: still moving after {limit_s:.1f} s")
                self.wait(POLL_S)

    def _command(self, command: str, *, timeout_s: float = ANSWER_S, tries: int = 3) -> Answer:
        answer = self._lines.ask(
            command, timeout_s=timeout_s, tries=tries, life=self._life, passing=self._passing
        )
        return self._judge(command, answer)

    def _query(self, command: str) -> Answer:
        return self._judge(command, self._lines.ask(command, timeout_s=ANSWER_S, life=self._life))

    def _judge(self, command: str, answer: Answer) -> Answer:
        for line in self._lines.unasked():
            self._heed(line)
        if answer.kind == LineKind.OK:
            return answer
        if answer.kind == LineKind.ALARM:
            raise self._alarm(f"says ALARM {answer.text}")
        code = answer.text.split(maxsplit=1)[0] if answer.text else ""
        if code == "E24":
            raise self._alarm(ERROR_WORDS[code])
        words = ERROR_WORDS.get(code, "it says so")
        raise RobotError(
            f"{self._site.name}: the controller refused {command!r}: {answer.text} ({words})"
        )

    def _heed(self, line: Line) -> None:
        """Act on what the controller said unasked."""
        if line.kind == LineKind.ALARM:
            raise self._alarm(f"says ALARM {line.text}")
        if line.text.startswith("@5 V0"):
            raise self._alarm("says that the motors lost their supply")
        if line.text.startswith("@7"):
            raise self._alarm(f"is too hot ({line.text})")
        logger.info("controller speaks", extra={"robot": self._site.name, "line": line.text})

    def _alarm(self, what: str) -> SafetyFault:
        return SafetyFault(
            f"{self._site.name}: the controller {what}: see to the arm, then start the agent again"
        )

    @contextmanager
    def _passing(self) -> Iterator[None]:
        self._site.beat()
        with self._gate.passing():
            yield
