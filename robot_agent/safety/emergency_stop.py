"""The emergency stop: by a file, a key, a signal or the learner; a motion under way ends at once.

A thread of its own looks for all of them, so that neither a motion nor a decision delays it.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from types import TracebackType
from typing import Self

from protocol.errors import ConfigurationError, RobotError, SafetyFault
from robot_agent.robots.base import Robot
from robot_agent.safety.stop_key import StopKey
from robot_agent.safety.stop_latch import BY_FILE, Stop, StopLatch

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.04
"""How often the file is looked for; the others wake the thread."""
STOP_SIGNAL = signal.SIGUSR1


class EmergencyStop:
    """One robot's. Once pulled it stays so: the agent ends, and a person resumes."""

    def __init__(self, name: str, latch: StopLatch) -> None:
        """Prepare; ``start`` begins to look.

        Args:
            name: of the robot.
            latch: keeps it stopped beyond the agent's end.
        """
        self._name = name
        self._latch = latch
        self._robot: Robot | None = None
        self._wakes: list[threading.Event] = []
        self._lock = threading.Lock()
        self._pulled: Stop | None = None
        self._key = StopKey()
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._heeds_signal = self._closing = False
        self._thread = threading.Thread(target=self._look, name="emergency-stop", daemon=True)

    def start(self) -> None:
        """Look for the file and the key from now on.

        Raises:
            SafetyFault: the robot was stopped before, and no person has resumed it.
        """
        self._latch.check(self._name)
        if self._key.open():
            logger.info("%s: space stops the robot", self._name)
        self._thread.start()

    def heed_signal(self) -> None:
        """Heed SIGUSR1 too. To be called by the main thread of the agent's own process."""
        # The descriptor is written by whichever thread the system interrupts, at once: Python's own
        # handler would wait for the main thread, which may be in a long computation.
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(STOP_SIGNAL, lambda *_: None)
        self._heeds_signal = True

    def protect(self, robot: Robot | None) -> None:
        """Stop this robot when it is pulled, at once if it was before; None when it is closed."""
        with self._lock:
            self._robot = robot
            was_pulled = self._pulled is not None
        if was_pulled:
            self._halt()

    def wakes(self, event: threading.Event) -> None:
        """Set ``event`` when it is pulled, so that nobody waits for long."""
        with self._lock:
            self._wakes.append(event)
            was_pulled = self._pulled is not None
        if was_pulled:
            event.set()

    def pull(self, why: str) -> None:
        """Stop the robot, and keep it stopped. Any thread may call this; the first one counts.

        Args:
            why: who stopped it, in words.
        """
        with self._lock:
            if self._pulled is not None:
                return
            self._pulled = stop = Stop.now(why)
            events = list(self._wakes)
        try:
            self._halt()
        finally:
            logger.critical("%s: stopped %s", self._name, stop)
            for event in events:
                event.set()
            self._keep(stop)

    @property
    def pulled(self) -> Stop | None:
        """Who stopped the robot and when; None while nobody did."""
        return self._pulled

    def check(self, cause: Exception | None = None) -> None:
        """Raise SafetyFault if the robot was stopped; ``cause`` is what that led to."""
        stop = self._pulled
        if stop is not None:
            raise SafetyFault(f"{self._name} was stopped {stop}") from cause

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Look no more."""
        self._closing = True
        os.write(self._waker, b"\0")
        if self._thread.ident is not None:
            self._thread.join()
        self._key.close()
        if self._heeds_signal:
            # The signal itself stays harmless: the robot is in its safe state already.
            signal.set_wakeup_fd(-1)
        os.close(self._woken)
        os.close(self._waker)

    def _look(self) -> None:
        poller = select.poll()
        poller.register(self._woken, select.POLLIN)
        if self._key.is_open:
            poller.register(self._key, select.POLLIN)
        while not self._closing and self._pulled is None:
            ready = {descriptor for descriptor, _ in poller.poll(1000 * LOOK_EVERY_S)}
            if self._woken in ready and STOP_SIGNAL in os.read(self._woken, 256):
                self.pull("by the signal SIGUSR1")
            if self._key.fileno() in ready:
                if self._key.was_pressed():
                    self.pull("by a key in its terminal")
                elif not self._key.is_open:
                    poller.unregister(self._key)
            if self._latch.is_ordered_by_file:
                self.pull(BY_FILE)

    def _halt(self) -> None:
        robot = self._robot
        if robot is None:
            return
        try:
            robot.stop()
        except RobotError as error:
            logger.critical("%s: the robot cannot be stopped: %s", self._name, error)

    def _keep(self, stop: Stop) -> None:
        try:
            self._latch.set(stop)
        except ConfigurationError as error:
            logger.critical("%s: the stop is not kept on disk: %s", self._name, error)
