"""What the attempts that were stored since the gateway began add up to."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from learner.monitoring.attempt_facts import AttemptFacts
from learner.monitoring.buckets import Buckets
from protocol.episode import Label, Mode

MOST_TASKS = 20
TASKS_OF_ROBOT = 2
"""Tasks that one robot can bring into the list; every robot may do those that are on it."""
OTHER_TASKS = "other"
"""A task is what a robot says it is: none shall make Prometheus keep a series for every word."""
_PROBABILITIES = tuple(tenth / 10 for tenth in range(1, 11))
_DECISION_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(kw_only=True, slots=True)
class RobotCounts:
    """One robot's attempts."""

    greedy: dict[Label, int] = field(default_factory=lambda: dict.fromkeys(Label, 0))
    """Those that neither explored nor were random."""
    predicted: dict[Label, int] = field(default_factory=lambda: dict.fromkeys(Label, 0))
    """Those of which the network predicted the success."""
    predicted_sum: dict[Label, float] = field(default_factory=lambda: dict.fromkeys(Label, 0.0))
    disagreements: int = 0
    """Those whose gripper reading and drop test contradict each other."""
    received_bytes: int = 0

    def add(self, facts: AttemptFacts) -> None:
        """Count one attempt."""
        label = facts.label
        self.received_bytes += facts.record_bytes
        self.disagreements += facts.tests_disagree
        if facts.mode is Mode.GREEDY:
            self.greedy[label] += 1
        if facts.predicted is not None:
            self.predicted[label] += 1
            self.predicted_sum[label] += facts.predicted

    def copy(self) -> RobotCounts:
        """Return the same counts, which do not go on."""
        return replace(
            self,
            greedy=self.greedy.copy(),
            predicted=self.predicted.copy(),
            predicted_sum=self.predicted_sum.copy(),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptTotals:
    """All counts at one moment."""

    robots: dict[str, RobotCounts]
    tasks: dict[tuple[str, Label], int]
    predicted: dict[Label, Buckets]
    """Predicted success of the fleet's attempts, by how they ended."""
    decision_ms: Buckets


class AttemptCounts:
    """Counts stored attempts. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._robots: dict[str, RobotCounts] = {}
        self._tasks: Counter[tuple[str, Label]] = Counter()
        self._known_tasks: set[str] = set()
        self._brought: Counter[str] = Counter()
        """By robot: tasks that it was the first to do."""
        self._predicted = {
            label: Buckets(_PROBABILITIES) for label in (Label.SUCCESS, Label.FAILURE)
        }
        self._decision_ms = Buckets(_DECISION_MS)

    def add(self, attempts: Iterable[tuple[str, AttemptFacts]]) -> None:
        """Count attempts, each with the robot that made it."""
        with self._lock:
            for robot_id, facts in attempts:
                robot = self._robots.get(robot_id)
                if robot is None:
                    robot = self._robots[robot_id] = RobotCounts()
                robot.add(facts)
                self._tasks[self._task(robot_id, facts.task), facts.label] += 1
                if facts.predicted is not None:
                    self._predicted[facts.label].add((facts.predicted,))
                self._decision_ms.add(facts.decisions_ms)

    def totals(self) -> AttemptTotals:
        """Return all counts, as they are at one moment."""
        with self._lock:
            return AttemptTotals(
                robots={name: robot.copy() for name, robot in self._robots.items()},
                tasks=dict(self._tasks),
                predicted={label: found.copy() for label, found in self._predicted.items()},
                decision_ms=self._decision_ms.copy(),
            )

    def _task(self, robot_id: str, task: str) -> str:
        if task not in self._known_tasks:
            is_full = len(self._known_tasks) == MOST_TASKS
            if is_full or self._brought[robot_id] == TASKS_OF_ROBOT:
                return OTHER_TASKS
            self._brought[robot_id] += 1
            self._known_tasks.add(task)
        return task
