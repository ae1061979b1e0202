"""``summary.json``: the figures of a run. What was not measured is null, never guessed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from fleet.attempts import Attempt, RunningTime, in_order
from fleet.camera_description import HandEyeErrors
from fleet.curve import WINDOW, CurveRow, learning_curve, thinned, time_to_marks
from fleet.episode_counts import RobotCounts
from fleet.evaluation_result import Evaluation, percentiles, success_by
from fleet.proportion import Proportion
from fleet.run_folder import FleetRecord
from protocol.episode import Label, Mode


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """A success rate as it is written to JSON."""

    success: float | None
    successes: int
    attempts: int
    ci95: tuple[float, float] | None

    @classmethod
    def of(cls, proportion: Proportion) -> Rate:
        """Round a proportion."""
        return cls(
            success=None if proportion.rate is None else round(proportion.rate, 4),
            successes=proportion.successes,
            attempts=proportion.attempts,
            ci95=_rounded(proportion.interval),
        )


class SummaryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the learning curve."""

    time_s: float
    attempts: int
    success: float | None
    """Of the last 100 greedy attempts; of the random ones until the network took over."""
    ci95: tuple[float, float] | None
    mode: str
    success_of_all: float | None
    release_version: int


class RobotSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One robot over the whole run."""

    attempts: int
    rolling_greedy: Rate
    held_out: Rate | None
    random_held_out: Rate | None
    sent: int
    stored: int
    missing: int
    duplicated: int
    tombstoned: int
    conflicts: int
    aborted: int
    hand_eye_error_mm: HandEyeErrors
    peak_resident_mb: float | None


class Truthfulness(msgspec.Struct, frozen=True, kw_only=True):
    """What the robots claimed against what the simulator knows."""

    claimed_successes: int
    false_successes: int
    missed_successes: int
    tests_disagree: int
    attempts: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    seed: int
    robots: int
    wall_s: float
    collecting_s: float
    interrupted: bool
    attempts: int
    random_success: float | None
    random_attempts: int
    random_ci95: tuple[float, float] | None
    heldout_success: float | None
    heldout_attempts: int
    heldout_ci95: tuple[float, float] | None
    heldout_per_kind: dict[str, Rate]
    heldout_unseen_camera: Rate | None
    heldout_truth: Truthfulness | None
    training_truth: Truthfulness
    training_random_success: Rate
    final_greedy_success: Rate
    """Of the last 100 greedy attempts of the fleet while learning."""
    episodes_sent: int
    """By the robots' outboxes."""
    episodes_stored: int
    """By a reader of the store."""
    episodes_missing: int
    episodes_duplicated: int
    episodes_tombstoned: int
    episodes_left_in_outboxes: int
    releases_published: int
    release_latency_ms: dict[str, float | None]
    decision_ms: dict[str, float | None]
    """While learning, on a machine shared with everything else."""
    evaluation_decision_ms: dict[str, float | None]
    time_to: dict[str, float | None]
    time_to_first_curve_s: float | None
    episodes_per_s: float | None
    per_robot: dict[str, RobotSummary]
    peak_resident_mb: dict[str, float]
    restarts: dict[str, int]
    unseen_camera: dict[str, Any] | None
    environment: dict[str, Any]
    curve: list[SummaryRow]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """Everything that a summary is made of."""

    record: FleetRecord
    attempts: Sequence[Attempt]
    """Every stored episode, also aborted ones."""
    counts: Mapping[str, RobotCounts]
    hand_eye: Mapping[str, HandEyeErrors]
    evaluation: Evaluation | None
    environment: Mapping[str, Any]

    @property
    def rows(self) -> list[CurveRow]:
        """The learning curve, a row per attempt."""
        return learning_curve(in_order(self.attempts), RunningTime(self.record.sessions))


def summarise(facts: RunFacts) -> Summary:
    """Work the figures out."""
    rows = facts.rows
    finished = in_order(facts.attempts)
    evaluation = facts.evaluation
    random = evaluation.random if evaluation else Proportion(successes=0, attempts=0)
    held_out = evaluation.held_out if evaluation else Proportion(successes=0, attempts=0)
    counts = facts.counts.values()
    collecting_s = RunningTime(facts.record.sessions).total_s
    return Summary(
        seed=facts.record.seed,
        robots=len(facts.counts),
        wall_s=round(facts.record.wall_s, 1),
        collecting_s=round(collecting_s, 1),
        interrupted=facts.record.interrupted,
        attempts=len(finished),
        random_success=Rate.of(random).success,
        random_attempts=random.attempts,
        random_ci95=Rate.of(random).ci95,
        heldout_success=Rate.of(held_out).success,
        heldout_attempts=held_out.attempts,
        heldout_ci95=Rate.of(held_out).ci95,
        heldout_per_kind=_per_kind(evaluation),
        heldout_unseen_camera=Rate.of(evaluation.unseen) if evaluation else None,
        heldout_truth=_evaluation_truth(evaluation),
        training_truth=_training_truth(finished),
        training_random_success=Rate.of(_success(finished, Mode.RANDOM)),
        final_greedy_success=Rate.of(_last_greedy(finished)),
        episodes_sent=sum(robot.sent for robot in counts),
        episodes_stored=sum(robot.stored for robot in counts),
        episodes_missing=sum(robot.missing for robot in counts),
        episodes_duplicated=sum(robot.duplicated for robot in counts),
        episodes_tombstoned=sum(robot.tombstoned for robot in counts),
        episodes_left_in_outboxes=sum(robot.waiting for robot in counts),
        releases_published=facts.record.releases_published,
        release_latency_ms=percentiles(facts.record.release_latency_ms),
        decision_ms=percentiles(ms for attempt in finished for ms in attempt.decision_ms),
        evaluation_decision_ms=evaluation.decision_ms() if evaluation else percentiles([]),
        time_to=time_to_marks(rows),
        time_to_first_curve_s=next((row.time_s for row in rows if row.mode == Mode.GREEDY), None),
        episodes_per_s=round(len(finished) / collecting_s, 2) if collecting_s else None,
        per_robot=_per_robot(facts),
        peak_resident_mb=dict(facts.record.peak_resident_mb),
        restarts=dict(facts.record.restarts),
        unseen_camera=_unseen_camera(evaluation),
        environment=dict(facts.environment),
        curve=[_summary_row(row) for row in thinned(rows)],
    )


def _summary_row(row: CurveRow) -> SummaryRow:
    rolling = Rate.of(row.rolling)
    return SummaryRow(
        time_s=round(row.time_s, 2),
        attempts=row.attempts,
        success=rolling.success,
        ci95=rolling.ci95,
        mode=row.mode.value,
        success_of_all=Rate.of(row.rolling_all).success,
        release_version=row.release_version,
    )


def _per_robot(facts: RunFacts) -> dict[str, RobotSummary]:
    by_robot: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in facts.attempts:
        by_robot[attempt.robot_id].append(attempt)
    greedy = _evaluated_by_robot(facts.evaluation, random=False)
    random = _evaluated_by_robot(facts.evaluation, random=True)
    nothing = HandEyeErrors(described_mm=None, found_mm=None, refined_mm=None)
    return {
        name: RobotSummary(
            attempts=len(by_robot[name]),
            rolling_greedy=Rate.of(_last_greedy(in_order(by_robot[name]))),
            held_out=greedy.get(name),
            random_held_out=random.get(name),
            sent=counts.sent,
            stored=counts.stored,
            missing=counts.missing,
            duplicated=counts.duplicated,
            tombstoned=counts.tombstoned,
            conflicts=counts.conflicts,
            aborted=sum(attempt.label == Label.ABORTED for attempt in by_robot[name]),
            hand_eye_error_mm=facts.hand_eye.get(name, nothing),
            peak_resident_mb=facts.record.peak_resident_mb.get(name),
        )
        for name, counts in sorted(facts.counts.items())
    }


def _evaluated_by_robot(evaluation: Evaluation | None, *, random: bool) -> dict[str, Rate]:
    if evaluation is None:
        return {}
    attempts = evaluation.select("random" if random else "greedy")
    by_robot = success_by(attempts, lambda attempt: attempt.robot)
    return {name: Rate.of(proportion) for name, proportion in by_robot.items()}


def _per_kind(evaluation: Evaluation | None) -> dict[str, Rate]:
    if evaluation is None:
        return {}
    by_kind = success_by(
        evaluation.select("greedy"), lambda attempt: attempt.object_kind or "nothing"
    )
    return {kind: Rate.of(proportion) for kind, proportion in by_kind.items()}


def _training_truth(attempts: Sequence[Attempt]) -> Truthfulness:
    return Truthfulness(
        claimed_successes=sum(attempt.success for attempt in attempts),
        false_successes=sum(attempt.false_success for attempt in attempts),
        missed_successes=sum(attempt.missed_success for attempt in attempts),
        tests_disagree=sum(attempt.tests_disagree for attempt in attempts),
        attempts=len(attempts),
    )


def _evaluation_truth(evaluation: Evaluation | None) -> Truthfulness | None:
    if evaluation is None:
        return None
    attempts = evaluation.attempts
    return Truthfulness(
        claimed_successes=sum(one.success for one in attempts),
        false_successes=sum(one.success and one.reference_success is False for one in attempts),
        missed_successes=sum(
            one.label == Label.FAILURE and one.reference_success is True for one in attempts
        ),
        tests_disagree=sum(one.tests_disagree for one in attempts),
        attempts=len(attempts),
    )


def _unseen_camera(evaluation: Evaluation | None) -> dict[str, Any] | None:
    if evaluation is None or evaluation.unseen_camera is None:
        return None
    return dict(msgspec.to_builtins(evaluation.unseen_camera))


def _success(attempts: Sequence[Attempt], mode: Mode) -> Proportion:
    return Proportion.of(attempt.success for attempt in attempts if attempt.mode == mode)


def _last_greedy(attempts: Sequence[Attempt]) -> Proportion:
    greedy = [attempt.success for attempt in attempts if attempt.mode == Mode.GREEDY]
    return Proportion.of(greedy[-WINDOW:])


def _rounded(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (round(interval[0], 4), round(interval[1], 4))
