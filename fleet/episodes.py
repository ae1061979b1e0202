"""What ``fleet episodes`` shows of a store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from rich.text import Text

from fleet.store_reader import (
    StoredAttempt,
    newest_attempts,
    open_store,
)
from fleet.table import plain_table
from fleet.words import counted, utc_text
from learner.store.export import ExportReport
from protocol.episode import Action, Episode
from protocol.errors import ConfigurationError
from protocol.refusal_log import printable


def newest(folders: Sequence[Path], *, robot: str | None, last: int) -> list[StoredAttempt]:
    """Return the newest episodes of a fleet's stores, oldest first.

    Raises:
        StoreError: there is no store in a folder, or it is damaged.
        ConfigurationError: no store knows the robot.
    """
    with ExitStack() as opened:
        stores = [opened.enter_context(open_store(folder)) for folder in folders]
        known = sorted({name for store in stores for name in store.robots()})
        if robot is not None and robot not in known:
            raise ConfigurationError(
                f"the store knows no robot {robot!r}; it knows {', '.join(known) or 'none'}"
            )
        found: list[StoredAttempt] = []
        for store in stores:
            every = newest_attempts(store)
            wanted = (one for one in every if robot in (None, one.attempt.robot_id))
            found += list(islice(wanted, last))[::-1]
    if len(stores) > 1:  # one store's order is that of its commits
        found.sort(key=lambda one: one.attempt.finished_at_ns)
    return found[-last:]


def episode_table(found: list[StoredAttempt], *, width: int) -> Text:
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
        utc_text(attempt.finished_at_ns),
        attempt.mode.value,
        attempt.label.value,
        str(attempt.release_version),
        str(attempt.moves),
        str(one.record_bytes),
        f"{truth} {printable(attempt.object_kind)}".strip(),
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
        "started": utc_text(episode.started_at_ns),
        "finished": utc_text(episode.finished_at_ns),
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


def step_table(episode: Episode, *, width: int) -> Text:
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


def export_lines(report: ExportReport, target: Path) -> list[str]:
    """Return what came out of an export, in sentences."""
    lines = [
        f"{counted(report.exported, 'episode')} exported to {target}, every one with a sound "
        f"digest; with them {counted(report.retired, 'retired key')}, "
        f"{counted(report.tombstoned, 'tombstone')}, "
        f"{counted(report.conflicts, 'conflicting record')}"
    ]
    if report.is_cut_short:
        lines.append(f"{report.file_bytes} of {report.needed_bytes} bytes of the file are there")
    if report.damaged_pages:
        lines.append(f"{counted(report.damaged_pages, 'page')} of the file could not be read")
    if report.lost_episodes is None:
        lines.append("how many were lost is not known: the file's own count cannot be read")
    elif report.lost_episodes:
        lines.append(
            f"{counted(report.lost_episodes, 'episode')} lost; those whose names are known:"
        )
    for robot, spools in report.lost.items():
        lines += [f"  {robot}, spool {spool[:8]}: {', '.join(at)}" for spool, at in spools.items()]
    return lines


def listing(one: StoredAttempt) -> dict[str, Any]:
    """Return an episode in a few words, ready for JSON."""
    return {
        "episode": one.episode_id,
        "sequence": one.sequence,
        "spool": one.spool_id.hex(),
        "bytes": one.record_bytes,
        **msgspec.to_builtins(one.attempt),
    }


def _motion(action: Action) -> list[float]:
    degrees = math.degrees(action.rotation_rad)
    metres = (action.dx_m, action.dy_m, action.dz_m)
    return [*(round(1000 * value, 1) for value in metres), round(degrees, 1)]


def _shown(action: Action) -> str:
    return " ".join(f"{value:+.0f}" for value in _motion(action))
