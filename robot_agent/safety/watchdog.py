"""The agent's side of its guard: starts it, and gives it signs of life."""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from protocol.errors import ConfigurationError, SafetyFault
from robot_agent.config import AgentConfig
from robot_agent.drivers import load_driver
from robot_agent.robots.base import GuardedRobot
from robot_agent.safety.guard import AT_REST, AT_WORK, LEFT, READY, SAFE, Charge

logger = logging.getLogger(__name__)

READY_WITHIN_S = 60.0
"""How long a guard may take to load the driver, on a slow card."""
BEAT_EVERY_S = 0.1
"""Signs of life are not sent more often, however often they are given."""
_ENDED_WITHIN_S = 5.0


class Watchdog:
    """Says what the agent does; a robot without motors of its own has none to guard."""

    def __init__(self, name: str, guard: subprocess.Popen[bytes] | None) -> None:
        self._name = name
        self._guard = guard
        self._lock = threading.Lock()
        self._depth = 0
        self._beaten_s = 0.0
        self._is_open = self._is_safe = False

    @classmethod
    def start(cls, config: AgentConfig) -> Watchdog:
        """Start the guard if the driver is a GuardedRobot; the robot is not open yet.

        Raises:
            ConfigurationError: the driver cannot be loaded, or the guard does not start.
        """
        if not isinstance(load_driver(config.robot.driver), GuardedRobot):
            return cls(config.name, None)
        guard = subprocess.Popen(
            [sys.executable, "-m", "robot_agent.safety.guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C in the terminal is for the agent.
            start_new_session=True,
        )
        try:
            _charge(guard, config)
        except BaseException:
            # Ctrl-C too: a guard that lives on would take what follows for its agent's death.
            guard.kill()
            guard.wait()
            raise
        return cls(config.name, guard)

    @property
    def guard_pid(self) -> int | None:
        """The guard's process; None where there is nothing to guard."""
        return self._guard.pid if self._guard is not None else None

    def note_open(self) -> None:
        """The robot is open: from now on it must be brought to its safe state."""
        self._is_open = True

    def note_safe(self) -> None:
        """The robot was brought to its safe state."""
        self._is_safe = True

    def beat(self) -> None:
        """Give a sign of life, while the robot is at work. Any thread may call this.

        Raises:
            SafetyFault: the guard is gone.
        """
        now_s = time.monotonic()
        if self._depth and now_s - self._beaten_s >= BEAT_EVERY_S:
            with self._lock:
                if self._depth:
                    self._say(AT_WORK)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Be watched meanwhile: signs of life are due. May be nested.

        Raises:
            SafetyFault: the guard is gone.
        """
        self._enter(+1)
        try:
            yield
        finally:
            # A guard that is gone is told before the next motion; what was done is not lost by it.
            with suppress(SafetyFault):
                self._enter(-1)

    def close(self) -> None:
        """Let the guard go, or leave it to hold the robot still where the agent could not."""
        if self._guard is None:
            return
        assert self._guard.stdin is not None
        is_safe = self._is_safe or not self._is_open
        try:
            self._say(SAFE if is_safe else LEFT)
        except SafetyFault as fault:
            logger.critical("%s", fault)
        self._guard.stdin.close()
        if is_safe:
            self._await_end(self._guard)

    def _await_end(self, guard: subprocess.Popen[bytes]) -> None:
        try:
            guard.wait(_ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            logger.critical("%s: the process that guards the arm does not end", self._name)
            guard.kill()
            guard.wait()

    def _enter(self, step: int) -> None:
        with self._lock:
            self._depth += step
            self._say(AT_WORK if self._depth else AT_REST)

    def _say(self, sign: bytes) -> None:
        if self._guard is None:
            return
        assert self._guard.stdin is not None
        try:
            os.write(self._guard.stdin.fileno(), sign)
        except (BrokenPipeError, BlockingIOError) as error:
            raise SafetyFault(
                f"{self._name}: the process that guards the arm has ended or hangs (status "
                f"{self._guard.poll()}): it must not move unguarded; the log may say why"
            ) from error
        self._beaten_s = time.monotonic()


def _charge(guard: subprocess.Popen[bytes], config: AgentConfig) -> None:
    """Tell a guard whom it guards, and wait until it is ready."""
    assert guard.stdin is not None
    charge = Charge(
        agent_pid=os.getpid(),
        name=config.name,
        driver=config.robot.driver,
        options=config.robot.options,
        state_folder=str(config.state_folder.resolve()),
        safety=config.safety,
    )
    os.write(guard.stdin.fileno(), msgspec.json.encode(charge) + b"\n")
    os.set_blocking(guard.stdin.fileno(), False)
    _await_ready(guard)


def _await_ready(guard: subprocess.Popen[bytes]) -> None:
    assert guard.stdout is not None
    with guard.stdout as answers:
        if select.select([answers], [], [], READY_WITHIN_S)[0] and answers.readline() == READY:
            return
    guard.kill()
    raise ConfigurationError(
        f"the process that guards the arm did not start within {READY_WITHIN_S:g} s (status "
        f"{guard.wait()}); what it said stands above"
    )
