"""What the tools need to know of a finished attempt, without its pictures."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocol.episode import Label, Mode

_NS = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One stored episode in a few words."""

    robot_id: str
    finished_at_ns: int
    mode: Mode
    label: Label
    release_version: int
    moves: int
    reference_success: bool | None
    """What an independent instrument said; None where there is none."""
    object_kind: str
    tests_disagree: bool
    decision_ms: tuple[float, ...]
    """Wall time of each decision that a network made."""

    @property
    def success(self) -> bool:
        """True when the robot's own label says so."""
        return self.label == Label.SUCCESS

    @property
    def false_success(self) -> bool:
        """Claimed, but the independent instrument knows better."""
        return self.success and self.reference_success is False

    @property
    def missed_success(self) -> bool:
        """Held in truth, but labelled a failure."""
        return self.label == Label.FAILURE and self.reference_success is True


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One run of a fleet: from the moment the learner was ready to the end of collecting."""

    started_at_ns: int
    ended_at_ns: int


class RunningTime:
    """Seconds of collecting, over all sessions of a run folder; time between them is left out."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sorted(sessions, key=lambda session: session.started_at_ns)
        self._starts = [session.started_at_ns for session in self._sessions]
        self._before_s = [0.0]
        for session in self._sessions:
            length_s = (session.ended_at_ns - session.started_at_ns) * _NS
            self._before_s.append(self._before_s[-1] + length_s)

    @property
    def total_s(self) -> float:
        """Length of all sessions."""
        return self._before_s[-1]

    def at(self, time_ns: int) -> float:
        """Return the running time at a UTC time; before the first session it is 0."""
        index = bisect.bisect_right(self._starts, time_ns) - 1
        if index < 0:
            return 0.0
        session = self._sessions[index]
        inside_ns = min(time_ns, session.ended_at_ns) - session.started_at_ns
        return self._before_s[index] + inside_ns * _NS


def in_order(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Drop aborted attempts and sort the rest by the time they ended."""
    finished = [attempt for attempt in attempts if attempt.label != Label.ABORTED]
    return sorted(finished, key=lambda attempt: attempt.finished_at_ns)
