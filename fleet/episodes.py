"""What ``fleet episodes`` shows of a store."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from fleet.episode_counts import RobotCounts
from fleet.fleet_files import agent_config
from fleet.run_folder import RunFolder
from fleet.store_reader import (
    Ranges,
    StoredAttempt,
    count_episodes,
    newest_attempts,
    open_store,
    stored_attempts,
)
from fleet.table import plain_table
from learner.store.export import ExportReport, range_text
from learner.store.ledger import Retirement
from learner.store.verification import verify_store
from protocol.episode import Action, Episode
from protocol.errors import ConfigurationError
from robot_agent.outbox import OutboxCounts, outbox_counts

_COLUMNS = {
    "written": "written",
    "sent": "sent",
    "waiting": "waiting",
    "stored": "stored",
    "missing": "missing",
    "damaged": "damaged",
    "doubled": "duplicated",
    "conflicts": "conflicts",
    "retired": "retired",
    "tombstoned": "tombstoned",
    "came twice": "refused_duplicates",
}
"""Headings of the verification's table, and what stands below them."""
_QUIET = {"damaged", "doubled", "conflicts", "retired", "tombstoned", "came twice"}
_SHOWN_RETIREMENTS = 10
"""The newest ones; all of them are in the JSON."""


def newest(folder: Path, *, robot: str | None, last: int) -> list[StoredAttempt]:
    """Return the newest episodes of a store, oldest first.

    Raises:
        StoreError: there is no store, or it is damaged.
        ConfigurationError: the store knows no such robot.
    """
    with open_store(folder) as store:
        if robot is not None and robot not in (known := store.robots()):
            raise ConfigurationError(
                f"the store knows no robot {robot!r}; it knows {', '.join(known) or 'none'}"
            )
        wanted = (one for one in newest_attempts(store) if robot in (None, one.attempt.robot_id))
        return list(islice(wanted, last))[::-1]


def episode_table(found: list[StoredAttempt], *, width: int) -> Table:
    """Return one row per episode."""
    return plain_table(
        (
            "episode",
            "robot",
            "ended (UTC)",
            "mode",
            "outcome",
            "release",
            "steps",
            "bytes",
            "truth",
        ),
        [_episode_cells(one) for one in found],
        width=width,
        left={"robot", "ended (UTC)", "truth"},
    )


def _episode_cells(one: StoredAttempt) -> list[str]:
    attempt = one.attempt
    truth = {True: "held", False: "not held", None: ""}[attempt.reference_success]
    return [
        one.episode_id[:12],
        attempt.robot_id,
        _time(attempt.finished_at_ns),
        attempt.mode.value,
        attempt.label.value,
        str(attempt.release_version),
        str(attempt.moves),
        str(one.record_bytes),
        f"{truth} {attempt.object_kind}".strip(),
    ]


def describe(episode: Episode, robot_id: str) -> dict[str, Any]:
    """Return everything of an episode but its pictures, ready for JSON."""
    reference = episode.outcome.reference
    return {
        "episode": episode.episode_id,
        "robot": robot_id,
        "task": episode.task,
        "mode": episode.mode.value,
        "release": episode.policy.release_version,
        "policy_digest": episode.policy.digest,
        "started": _time(episode.started_at_ns),
        "finished": _time(episode.finished_at_ns),
        "image": "x".join(str(side) for side in episode.first_image.shape[1::-1]),
        "label": episode.outcome.label.value,
        "opening_after_lift_mm": round(1000 * episode.outcome.opening_after_lift_m, 2),
        "drop_test_score": round(episode.outcome.drop_test_score, 4),
        "tests_disagree": episode.outcome.tests_disagree,
        "abort_reason": episode.outcome.abort_reason,
        "in_truth": None if reference is None else reference.success,
        "object_kind": None if reference is None else reference.object_kind,
        "steps": [
            {
                "kind": step.kind.value,
                "wished_mm_deg": _motion(step.wished),
                "commanded_mm_deg": _motion(step.commanded),
                "reached_mm_deg": _motion(step.reached),
                "predicted_best": step.predicted_best,
                "predicted_stay": step.predicted_stay,
                "decision_ms": round(step.decision_ms, 2),
            }
            for step in episode.steps
        ],
    }


def step_table(episode: Episode, *, width: int) -> Table:
    """Return one row per step: what was wished, commanded and reached."""
    rows = [
        [
            step.kind.value,
            *(_shown(motion) for motion in (step.wished, step.commanded, step.reached)),
            "" if step.predicted_best is None else f"{step.predicted_best:.0%}",
            "" if step.predicted_stay is None else f"{step.predicted_stay:.0%}",
        ]
        for step in episode.steps
    ]
    headings = ("step", "wished mm, °", "commanded mm, °", "reached mm, °", "best", "stay")
    return plain_table(headings, rows, width=width)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What became of every episode of every robot."""

    robots: dict[str, RobotCounts]
    damaged: int
    """Records that fail their digest or cannot be found by their key."""
    missing_sequences: dict[str, dict[str, list[str]]]
    """Robot -> spool -> ranges of sequences that neither came nor were given up."""
    damaged_sequences: dict[str, dict[str, list[str]]]
    """Robot -> spool -> ranges of sequences whose record is not what was stored."""
    misplaced: list[str]
    """Sound records that cannot be found by their key."""
    retirements: list[Retirement]
    """What the store removed to make room, oldest first."""

    @property
    def sound(self) -> bool:
        """True when nothing is damaged, missing, doubled or in conflict.

        A conflict is accounted for, both records are there; but somebody should look at it.
        """
        counts = self.robots.values()
        return not self.damaged and not any(
            one.missing or one.duplicated or one.conflicts for one in counts
        )

    def table(self, *, width: int) -> Table:
        """Return one row per robot; of what went wrong, only what did."""
        rows = [
            [robot, *(str(getattr(counts, name)) for name in _COLUMNS.values())]
            for robot, counts in self.robots.items()
        ]
        return plain_table(("robot", *_COLUMNS), rows, width=width, quiet=_QUIET)

    def findings(self) -> list[str]:
        """Return a sentence for everything that a person should know."""
        said = [
            f"{robot}: {what} of spool {spool[:8]}: {', '.join(gaps)}"
            for what, found in (
                ("missing", self.missing_sequences),
                ("damaged", self.damaged_sequences),
            )
            for robot, spools in found.items()
            for spool, gaps in spools.items()
        ]
        said += [f"damaged: the store's index does not lead to {key}" for key in self.misplaced]
        said += [
            f"ALARM: {_counted(counts.conflicts, 'episode')} of {robot} came under the sequence "
            "of another one; both are kept. Was its disk copied to another robot, or restored from "
            "a backup?"
            for robot, counts in self.robots.items()
            if counts.conflicts
        ]
        said += [
            f"{robot}: {ahead} more stored than its outbox knew to have sent: it delivers still, "
            "or an ack has not reached it"
            for robot, counts in self.robots.items()
            if (ahead := counts.stored + counts.retired + counts.damaged - counts.sent) > 0
        ]
        said += [
            f"retired by {one.reason}: {_counted(one.records, 'episode')}, {one.record_bytes} "
            f"bytes, commits {one.first_number} to {one.last_number}, {_time(one.began_at_ns)} to "
            f"{_time(one.ended_at_ns)} UTC"
            for one in self.retirements[-_SHOWN_RETIREMENTS:]
        ]
        return said

    def verdict(self) -> str:
        """Return one sentence."""
        stored = sum(one.stored for one in self.robots.values())
        if self.sound:
            return f"{_counted(stored, 'episode')}, every one of them whole and there once"
        return (
            f"{_counted(stored, 'episode')}; {self.damaged} damaged, "
            f"{sum(one.missing for one in self.robots.values())} missing, "
            f"{sum(one.duplicated for one in self.robots.values())} doubled, "
            f"{sum(one.conflicts for one in self.robots.values())} in conflict"
        )


def verify(store_folder: Path, run: Path | None) -> Verification:
    """Read every record of a store and compare it with the outboxes of a run folder.

    Raises:
        StoreError: there is no store, or its file is damaged.
        ConfigurationError: ``run`` is not a run folder.
    """
    outboxes = run_outboxes(RunFolder.existing(run)) if run is not None else {}
    # First, and in a process of its own: a damaged file can end the process that reads it.
    found = verify_store(store_folder)
    damaged = {robot: found.damaged_of(robot) for robot in found.damaged}
    with open_store(store_folder) as store:
        missing = {
            robot: {spool.hex(): gaps for spool, gaps in store.missing(robot).items()}
            for robot in store.robots()
        }
        return Verification(
            robots=count_episodes(store, list(stored_attempts(store)), outboxes, damaged),
            damaged=found.damaged_episodes + len(found.misplaced) + found.damaged_conflicts,
            missing_sequences=_in_words(missing),
            damaged_sequences=_in_words(damaged),
            misplaced=found.misplaced,
            retirements=store.retirements(),
        )


def export_lines(report: ExportReport, target: Path) -> list[str]:
    """Return what came out of an export, in sentences."""
    lines = [
        f"{_counted(report.exported, 'episode')} exported to {target}, every one with a sound "
        f"digest; with them {_counted(report.retired, 'retired key')}, "
        f"{_counted(report.tombstoned, 'tombstone')}, "
        f"{_counted(report.conflicts, 'conflicting record')}"
    ]
    if report.is_cut_short:
        lines.append(f"{report.file_bytes} of {report.needed_bytes} bytes of the file are there")
    if report.damaged_pages:
        lines.append(f"{_counted(report.damaged_pages, 'page')} of the file could not be read")
    if report.lost_episodes is None:
        lines.append("how many were lost is not known: the file's own count cannot be read")
    elif report.lost_episodes:
        lines.append(
            f"{_counted(report.lost_episodes, 'episode')} lost; those whose names are known:"
        )
    for robot, spools in report.lost.items():
        lines += [f"  {robot}, spool {spool[:8]}: {', '.join(at)}" for spool, at in spools.items()]
    return lines


def _in_words(found: Ranges) -> dict[str, dict[str, list[str]]]:
    return {
        robot: {spool: [range_text(gap) for gap in gaps] for spool, gaps in spools.items()}
        for robot, spools in found.items()
        if spools
    }


def run_outboxes(folder: RunFolder) -> dict[str, OutboxCounts]:
    """Return what the outboxes of a run folder's robots say, by robot."""
    found = {}
    for name in folder.robot_names():
        try:
            found[name] = outbox_counts(agent_config(folder, name).state_folder)
        except ConfigurationError:
            continue  # this robot's agent never got as far as an outbox
    return found


def listing(one: StoredAttempt) -> dict[str, Any]:
    """Return an episode in a few words, ready for JSON."""
    return {
        "episode": one.episode_id,
        "sequence": one.sequence,
        "spool": one.spool_id.hex(),
        "bytes": one.record_bytes,
        **msgspec.to_builtins(one.attempt),
    }


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _motion(action: Action) -> list[float]:
    degrees = math.degrees(action.rotation_rad)
    metres = (action.dx_m, action.dy_m, action.dz_m)
    return [*(round(1000 * value, 1) for value in metres), round(degrees, 1)]


def _shown(action: Action) -> str:
    return " ".join(f"{value:+.0f}" for value in _motion(action))


def _time(time_ns: int) -> str:
    moment = datetime.datetime.fromtimestamp(time_ns / 1e9, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")
