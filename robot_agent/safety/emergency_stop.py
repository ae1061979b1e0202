"""The emergency stop: by a file, a key, a signal or the learner; a motion under way ends at once.

A thread of its own heeds key and signal, so that neither a motion nor a decision delays them, and
tries again what fails of a stop, until the agent ends. Files are another thread's: no stop waits
for a disk.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from types import TracebackType
from typing import Self

from protocol.errors import SafetyFault
from robot_agent.robots.base import Robot
from robot_agent.safety.latch_watch import LatchWatch
from robot_agent.safety.stop_key import ENTER_KEYS, STOP_KEYS, StopKey
from robot_agent.safety.stop_latch import Stop, StopLatch

logger = logging.getLogger(__name__)

TRY_EVERY_S = 0.04
"""How often a stop that failed is tried again, and a terminal that is lost is noticed."""
KEPT_WITHIN_S = 1.0
"""A disk is waited for so long, and no longer, before a robot is left to its guard."""
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
        self._latch_watch = LatchWatch(name, latch, self._pull)
        self._robot: Robot | None = None
        self.entered = threading.Event()
        """Set when Enter is pressed in the terminal, and when the robot is stopped: for whoever
        asks the person there. The terminal is read here alone."""
        self._wakes = [self.entered]
        self._lock = threading.Lock()
        self._acting = threading.Lock()
        """Held by whoever stops the robot, which may take seconds."""
        self._pulled: Stop | None = None
        self._is_halted = True
        """Also without a robot: what is not open was not moved."""
        self._has_complained = False
        self._key = StopKey()
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._heeds_signal = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="emergency-stop", daemon=True)

    def start(self) -> None:
        """Look for the file and the key from now on.

        Raises:
            SafetyFault: the robot was stopped before, and no person has resumed it.
        """
        self._latch.check(self._name)
        if self._key.open():
            logger.info("%s: space stops the robot", self._name)
        self._latch_watch.start()
        self._thread.start()

    @property
    def heeds_keys(self) -> bool:
        """Whether there is a terminal whose keys are heeded."""
        return self._key.is_open

    def heed_signal(self) -> None:
        """Heed SIGUSR1 too. To be called by the main thread of the robot's own process."""
        # The descriptor is written by whichever thread the system interrupts, at once: Python's own
        # handler would wait for the main thread, which may be in a long computation.
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(STOP_SIGNAL, lambda *_: None)
        self._heeds_signal = True

    def protect(self, robot: Robot | None) -> None:
        """Stop this robot when it is pulled, at once if it was before; None when it is in its safe
        state and closed.
        """
        with self._lock:
            self._robot = robot
            self._is_halted = robot is None
            was_pulled = self._pulled is not None
        if was_pulled:
            self._halt()

    def leave(self) -> None:
        """Have nothing to do with the robot any more: it is closed, but may not be in its safe
        state, and whoever guards it needs its port.

        Returns once the stop, if any, is on disk: who guards the robot adds to it.
        """
        with self._lock:
            self._robot = None
            self._is_halted = False
            was_pulled = self._pulled is not None
        if was_pulled:
            self.await_kept()

    def wakes(self, event: threading.Event) -> None:
        """Set ``event`` when it is pulled, so that nobody waits for long."""
        with self._lock:
            self._wakes.append(event)
            was_pulled = self._pulled is not None
        if was_pulled:
            event.set()

    def pull(self, why: str) -> None:
        """Stop the robot, and keep it stopped. Any thread may call this; the first one counts.

        What of it fails is tried again; ``is_held`` tells.

        Args:
            why: who stopped it, in words.
        """
        self._pull(Stop.now(why))

    @property
    def pulled(self) -> Stop | None:
        """Who stopped the robot and when; None while nobody did."""
        return self._pulled

    @property
    def is_held(self) -> bool:
        """Whether it was pulled, the robot holds still, and the stop is on disk."""
        return self._pulled is not None and self._is_halted and self.is_kept

    @property
    def is_kept(self) -> bool:
        """Whether the stop is on disk: only a person lets the robot start again."""
        return self._latch_watch.is_kept

    def await_kept(self) -> bool:
        """Give the disk a moment to keep the stop; return whether it did."""
        return self._latch_watch.await_kept(KEPT_WITHIN_S)

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
        self._closing.set()
        os.write(self._waker, b"\0")
        if self._thread.ident is not None:
            self._thread.join()
        self._latch_watch.close()
        self._key.close()
        if self._heeds_signal:
            # The signal itself stays harmless: the robot is in its safe state already.
            signal.set_wakeup_fd(-1)
        os.close(self._woken)
        os.close(self._waker)

    def _run(self) -> None:
        try:
            self._look()
        except Exception as error:
            # Without this thread nobody could stop the robot any more.
            logger.exception("%s: its emergency stop fails", self._name)
            self.pull(f"because its emergency stop failed: {error!r}")
        while not self._closing.wait(TRY_EVERY_S):
            self._halt()

    def _look(self) -> None:
        """Return when it was pulled, or is closed."""
        poller = select.poll()
        poller.register(self._woken, select.POLLIN)
        while not self._closing.is_set() and self._pulled is None:
            if self._key.is_open:
                poller.register(self._key, self._key.awaited)
            ready = {descriptor for descriptor, _ in poller.poll(1000 * TRY_EVERY_S)}
            if self._woken in ready and STOP_SIGNAL in os.read(self._woken, 256):
                self.pull("by the signal SIGUSR1")
            if self._key.fileno() in ready:
                self._heed(self._key.typed())
                if not self._key.is_open:
                    poller.unregister(self._key)

    def _heed(self, typed: bytes) -> None:
        if any(key in STOP_KEYS for key in typed):
            self.pull("by a key in its terminal")
        elif any(key in ENTER_KEYS for key in typed):
            self.entered.set()

    def _pull(self, stop: Stop) -> None:
        with self._lock:
            if self._pulled is not None:
                return
            self._pulled = stop
            events = list(self._wakes)
        self._halt()
        logger.critical("%s: stopped %s", self._name, stop)
        for event in events:
            event.set()
        self._latch_watch.keep(stop)

    def _halt(self) -> None:
        """Stop the robot unless it holds still already."""
        with self._acting:
            robot = self._robot
            if robot is None or self._is_halted:
                return
            try:
                robot.stop()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is tried again
                if not self._has_complained:
                    self._has_complained = True
                    logger.critical(
                        "%s: the robot cannot be stopped, it is tried again: %s", self._name, error
                    )
                return
            with self._lock:
                self._is_halted = self._is_halted or self._robot is robot
