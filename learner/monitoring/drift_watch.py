"""Drift of every robot of the fleet, watched from the attempts that are stored."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import numpy as np

from learner.monitoring.attempt_facts import AttemptFacts
from learner.monitoring.drift_detector import DriftDetector, Round, log_odds_of
from learner.monitoring.drift_file import read_drift, write_drift
from learner.monitoring.drift_queue import DriftAttempt, DriftQueue
from learner.monitoring.fleet_level import Floats
from protocol.episode import Label, Mode
from protocol.messages import Drift, RobotStatus

logger = logging.getLogger(__name__)

FALSE_ALARMS = 0.025
"""Share of robots that each of the two tests may alarm without drift within 10,000 attempts."""
MOST_WAITING = 50_000
"""Attempts that wait for being looked at; beyond, those of whoever makes most are left out."""
USUAL_PREDICTION = 0.8
"""Calibration is told by what robots achieve where they predicted this."""
_USUAL_OFFSET = float(log_odds_of(np.array(USUAL_PREDICTION)))
_SUCCESS, _CALIBRATION = "success", "calibration"
_PERIOD_S = 1.0
_BUDGET_S = 0.03
"""Of each period, so that a flood of attempts takes nothing from receiving them."""
_SAVED_EVERY_S = 60.0
_MODES = {mode: index for index, mode in enumerate(Mode)}


class DriftEvidence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How near a robot is to an alarm of each test, and whether there is one."""

    success: float
    """As a share of what raises the alarm."""
    success_detected: bool
    calibration: float
    calibration_detected: bool


class DriftWatch:
    """Two tests of every robot: of its success, and of its success beside what was predicted.

    Attempts are noted by whoever stores them and looked at by a thread of the watch's own. A robot
    takes 5 KB. Any thread may call any method but ``look``, which belongs to one thread.
    """

    def __init__(
        self, file: Path | None = None, newest_release: Callable[[], int] | None = None
    ) -> None:
        """Go on from ``file``.

        Args:
            file: where what is known is kept; None keeps nothing.
            newest_release: tells the number of the newest release, 0 while it is not known. What
                robots say of theirs counts up to it; without it they are taken at their word.
        """
        self._file = file
        self._newest_release = newest_release
        self._tests = {
            _SUCCESS: DriftDetector(len(Mode), FALSE_ALARMS),
            _CALIBRATION: DriftDetector(len(Mode), FALSE_ALARMS),
        }
        names = [] if file is None else read_drift(file, self._tests)
        self._rows = {name: row for row, name in enumerate(names)}
        self._queue = DriftQueue(MOST_WAITING)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)

    def start(self) -> None:
        """Start the thread that looks at what was noted."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and keep what is known."""
        if self._thread.is_alive():
            self._stopping.set()
            self._thread.join()

    def note(self, attempts: Iterable[tuple[str, AttemptFacts]]) -> None:
        """Take stored attempts, each with the robot that made it; they are looked at soon."""
        for robot_id, facts in attempts:
            if facts.label is Label.ABORTED:
                continue
            self._queue.put(
                DriftAttempt(
                    robot_id=robot_id,
                    mode=_MODES[facts.mode],
                    release=facts.release_version,
                    predicted=facts.predicted,
                    succeeded=facts.label is Label.SUCCESS,
                )
            )

    def look(self, budget_s: float = math.inf) -> None:
        """Look at what was noted, one attempt of every robot at a time, while there is time."""
        deadline_s = time.monotonic() + budget_s
        while time.monotonic() < deadline_s:
            attempts = self._queue.take()
            if not attempts:
                return
            with self._lock:
                self._observe(attempts)

    def success(self, robot_id: str) -> Drift | None:
        """Return whether a robot's success has left its past; None while it has none."""
        with self._lock:
            return self._drift(_SUCCESS, robot_id, 0.0)

    def calibration(self, robot_id: str) -> Drift | None:
        """Return whether its success beside what was predicted has; None while it has no past."""
        with self._lock:
            return self._drift(_CALIBRATION, robot_id, _USUAL_OFFSET)

    def evidence(self) -> dict[str, DriftEvidence]:
        """Return how near an alarm every robot is; costs less than asking for each."""
        success, calibration = self._tests[_SUCCESS], self._tests[_CALIBRATION]
        with self._lock:
            columns = [
                values.tolist()
                for test in (success, calibration)
                for values in (test.evidence(), test.alarms())
            ]
            names = list(self._rows)
        return {
            name: DriftEvidence(
                success=of_success,
                success_detected=success_alarm,
                calibration=of_calibration,
                calibration_detected=calibration_alarm,
            )
            for name, of_success, success_alarm, of_calibration, calibration_alarm in zip(
                names, *columns, strict=True
            )
        }

    def added_to(self, status: RobotStatus) -> RobotStatus:
        """Return a robot's status with both."""
        return msgspec.structs.replace(
            status,
            success_drift=self.success(status.robot_id),
            calibration_drift=self.calibration(status.robot_id),
        )

    def _drift(self, part: str, robot_id: str, offset: float) -> Drift | None:
        test, row = self._tests[part], self._rows.get(robot_id)
        if row is None or not test.attempts[row]:
            return None
        found = test.estimate(row, offset)
        return Drift(
            detected=bool(test.alarmed_for[row] >= 0),
            evidence=round(found.evidence, 4),
            attempts=int(test.attempts[row]),
            before=round(found.before, 3),
            now=round(found.now, 3),
            since=found.since,
        )

    def _run(self) -> None:
        save_at_s = time.monotonic() + _SAVED_EVERY_S
        try:
            while not self._stopping.wait(_PERIOD_S):
                self.look(_BUDGET_S)
                if time.monotonic() >= save_at_s:
                    self._keep()
                    save_at_s = time.monotonic() + _SAVED_EVERY_S
            self.look(_PERIOD_S)
            self._keep()
        except Exception:
            # Receiving goes on; the status no longer changes.
            logger.exception("the drift watch ended by an error of its own")

    def _keep(self) -> None:
        """Write down what is known, and say what was left out."""
        if left_out := self._queue.take_left_out():
            robot_id, most = left_out.most_common(1)[0]
            logger.warning(
                "drift: %d attempts came too fast to be looked at, of %d robots; %d of %s",
                left_out.total(),
                len(left_out),
                most,
                robot_id,
            )
        if self._file is None:
            return
        try:
            write_drift(self._file, list(self._rows), self._tests)
        except OSError as error:
            logger.warning("drift: what is known cannot be kept in %s: %s", self._file, error)

    def _observe(self, attempts: list[DriftAttempt]) -> None:
        fresh = [one.robot_id for one in attempts if one.robot_id not in self._rows]
        self._rows |= {name: len(self._rows) + index for index, name in enumerate(fresh)}
        if fresh:
            for test in self._tests.values():
                test.add_robots(len(fresh))
        self._test(_SUCCESS, attempts, np.zeros(len(attempts)))
        decided = [one for one in attempts if one.predicted is not None]
        if decided:
            predicted = np.array([one.predicted for one in decided], np.float64)
            self._test(_CALIBRATION, decided, log_odds_of(predicted))

    def _test(self, part: str, attempts: list[DriftAttempt], offsets: Floats) -> None:
        test = self._tests[part]
        before, newest = test.alarms(), None
        if self._newest_release is not None:
            # Until one is published after the gateway's start, there is none newer than before.
            newest = self._newest_release() or test.level.release
        test.observe(
            Round(
                rows=np.array([self._rows[one.robot_id] for one in attempts]),
                modes=np.array([one.mode for one in attempts]),
                releases=np.array([one.release for one in attempts]),
                offsets=offsets,
                succeeded=np.array([one.succeeded for one in attempts]),
                newest_release=newest,
            )
        )
        after = test.alarms()
        for one in attempts:
            row = self._rows[one.robot_id]
            if after[row] and not before[row]:
                since = test.estimate(row).since
                logger.warning(
                    "%s: its %s left its past about %d attempts ago", one.robot_id, part, since
                )
            elif before[row] and not after[row]:
                logger.info("%s: its %s has not left its past any more", one.robot_id, part)
