"""The end of a run: everything that was measured, as summary, pictures and a page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from fleet.attempts import in_order
from fleet.camera_description import HandEyeErrors, error_mm, workspace_points
from fleet.curve_picture import CurveData, draw_learning_curve
from fleet.environment import environment
from fleet.evaluation_result import Evaluation
from fleet.film_strip import draw_film_strip
from fleet.fleet_files import agent_config, camera_record
from fleet.operator import registry_of
from fleet.proportion import Proportion
from fleet.report import Strip, write_report
from fleet.run_folder import FleetRecord, RunFolder, write_atomically
from fleet.store_reader import (
    StoredAttempt,
    count_episodes,
    episode_numbered,
    open_store,
    stored_attempts,
)
from fleet.summary import RunFacts, Summary, summarise
from fleet.verification import run_outboxes
from learner.store.episode_store import EpisodeStore
from protocol.episode import Episode, Label, Mode
from protocol.errors import StoreError
from protocol.hand_eye import HandEyeMap
from protocol.release import Release, unpack_release
from protocol.security import load_release_public
from robot_agent.calibrating.described_camera import described_map
from robot_agent.delivery.outbox import OutboxCounts

_STRIP_MOVES = (3, 7)
"""Film strips are drawn of attempts of about this many steps: enough to see the robot correct
itself, few enough to fit the page."""


def conclude(
    folder: RunFolder,
    record: FleetRecord,
    evaluation: Evaluation | None,
    *,
    unheard: Collection[str] = (),
) -> list[str]:
    """Write ``summary.json``, the pictures and ``report.html``; return what to tell a person.

    Args:
        folder: of the run.
        record: of all its sessions.
        evaluation: of the last release, if it was measured.
        unheard: robots that never connected in the last session.
    """
    outboxes = run_outboxes(folder)
    waiting = _waiting(folder, outboxes, unheard)
    try:
        with ExitStack() as opened:
            stores = [opened.enter_context(open_store(path)) for path in folder.stores]
            found = _in_stores(stores)
            facts = _facts(folder, record, evaluation, stores, found, outboxes)
            strips = _film_strips(folder, found)
    except StoreError as error:
        return [f"nothing to report: {error}", *waiting]
    summary = summarise(facts)
    write_atomically(folder.summary, msgspec.json.format(msgspec.json.encode(summary), indent=2))
    curve = folder.root / "learning_curve.png"
    draw_learning_curve(_curve_data(facts, summary), curve)
    write_report(summary, folder.root / "report.html", curve=curve, strips=strips)
    return _last_words(folder, summary, waiting)


def hand_eye_errors(
    folder: RunFolder, name: str, found: HandEyeMap | None, release: Release | None
) -> HandEyeErrors:
    """Compare a robot's maps with the truth, where somebody knows it."""
    known = camera_record(folder, name)
    if known is None:
        return HandEyeErrors(described_mm=None, found_mm=None, refined_mm=None)
    workspace = agent_config(folder, name).workspace
    truth, points = described_map(known.true), workspace_points(workspace.x_m, workspace.y_m)
    refined = release.manifest.hand_eye_maps.get(name) if release else None
    refined_map = (
        HandEyeMap(matrix=np.array(refined.matrix, np.float32).reshape(3, 4)) if refined else None
    )
    return HandEyeErrors(
        described_mm=error_mm(described_map(known.described), truth, points),
        found_mm=error_mm(found, truth, points) if found else None,
        refined_mm=error_mm(refined_map, truth, points) if refined_map else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """An attempt, and the store that has it."""

    store: EpisodeStore
    record: StoredAttempt

    def episode(self) -> Episode:
        """Return all of it, with its pictures."""
        return episode_numbered(self.store, self.record.number)


def _in_stores(stores: list[EpisodeStore]) -> list[_Found]:
    """Return what the stores hold: in order of commits, or of time where there are several."""
    found = [_Found(store=store, record=one) for store in stores for one in stored_attempts(store)]
    if len(stores) > 1:
        found.sort(key=lambda one: one.record.attempt.finished_at_ns)
    return found


def _facts(
    folder: RunFolder,
    record: FleetRecord,
    evaluation: Evaluation | None,
    stores: list[EpisodeStore],
    found: list[_Found],
    outboxes: dict[str, OutboxCounts],
) -> RunFacts:
    release = _newest_release(folder)
    records = [one.record for one in found]
    newest = {one.record.attempt.robot_id: one for one in found}
    maps = {name: HandEyeMap(matrix=one.episode().calibration) for name, one in newest.items()}
    return RunFacts(
        record=record,
        attempts=[one.attempt for one in records],
        counts=count_episodes(stores, records, outboxes),
        hand_eye={
            name: hand_eye_errors(folder, name, maps.get(name), release)
            for name in folder.robot_names()
        },
        evaluation=evaluation,
        environment=environment(),
    )


def _newest_release(folder: RunFolder) -> Release | None:
    path = folder.newest_release()
    if path is None:
        return None
    return unpack_release(path.read_bytes(), load_release_public(folder.keys / "release.public"))


def _curve_data(facts: RunFacts, summary: Summary) -> CurveData:
    random = [one.success for one in in_order(facts.attempts) if one.mode == Mode.RANDOM]
    measured = facts.evaluation.random if facts.evaluation else None
    return CurveData(
        title=f"{summary.robots} simulated robots learn to grasp together",
        rows=facts.rows,
        random=measured if measured and measured.attempts else Proportion.of(random),
        held_out=facts.evaluation.held_out if facts.evaluation else None,
    )


def _film_strips(folder: RunFolder, found: list[_Found]) -> list[Strip]:
    """Draw the newest greedy success and failure that show the robot correcting itself."""
    strips = []
    for label, title in ((Label.SUCCESS, "A success"), (Label.FAILURE, "A failure")):
        chosen = _newest_of(found, label)
        if chosen is None:
            continue
        path = folder.root / f"film_strip_{label.value}.png"
        draw_film_strip(chosen.episode(), path)
        strips.append(Strip(title=title, path=path))
    return strips


def _newest_of(found: list[_Found], label: Label) -> _Found | None:
    ended_so = [one for one in found if one.record.attempt.label == label]
    greedy = [one for one in ended_so if one.record.attempt.mode == Mode.GREEDY]
    low, high = _STRIP_MOVES
    telling = [one for one in greedy if low <= one.record.attempt.moves <= high]
    for candidates in (telling, greedy, ended_so):
        if candidates:
            return candidates[-1]
    return None


def _waiting(
    folder: RunFolder, outboxes: Mapping[str, OutboxCounts], unheard: Collection[str]
) -> list[str]:
    """Return a line about the episodes that robots could not deliver; none where all did."""
    members = {member.name for member in registry_of(folder).members()}
    waiting = {name: outbox.waiting for name, outbox in outboxes.items() if outbox.waiting}
    if not waiting:
        return []
    each = []
    for name, count in waiting.items():
        if name not in members:
            each.append(f"{name}: {count}, not enrolled")
        elif name in unheard:
            each.append(f"{name}: {count}, never connected")
        else:
            each.append(f"{name}: {count}")
    return [f"{sum(waiting.values())} wait in outboxes ({'; '.join(each)})"]


def _last_words(folder: RunFolder, summary: Summary, waiting: list[str]) -> list[str]:
    held_out = Proportion(
        successes=round((summary.heldout_success or 0) * summary.heldout_attempts),
        attempts=summary.heldout_attempts,
    )
    random = Proportion(
        successes=round((summary.random_success or 0) * summary.random_attempts),
        attempts=summary.random_attempts,
    )
    lines = [
        f"{summary.attempts} attempts; episodes: {summary.episodes_sent} sent, "
        f"{summary.episodes_stored} stored, {summary.episodes_missing} missing, "
        f"{summary.episodes_duplicated} doubled",
        *waiting,
    ]
    if held_out.attempts:
        lines.append(f"success on objects never seen: {held_out}; random commands: {random}")
    else:
        final = summary.final_greedy_success
        lines.append(
            "success of the last greedy attempts: "
            f"{Proportion(successes=final.successes, attempts=final.attempts)}; not evaluated"
        )
    return [*lines, f"report: {_shown(folder.root / 'report.html')}"]


def _shown(path: Path) -> Path:
    """Return the path as a person at this prompt would write it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
