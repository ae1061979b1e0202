"""One self-contained page: curve, film strips and tables, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from fleet.summary import Rate, Summary, Truthfulness

_NOTHING = "\N{EN DASH}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One figure at the top."""

    value: str
    text: str
    tone: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows under a title."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    text: str = ""
    prose: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """A film strip and what it shows."""

    title: str
    path: Path


def write_report(summary: Summary, path: Path, *, curve: Path | None, strips: list[Strip]) -> None:
    """Write ``report.html`` with its pictures inside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=f"{summary.robots} simulated robots learn to grasp together",
        subtitle=_subtitle(summary),
        summary=summary,
        cards=_cards(summary),
        pictures={"curve": _inline(curve) if curve else ""},
        strips=[{"title": one.title, "picture": _inline(one.path)} for one in strips],
        tables=_tables(summary),
    )
    path.write_text(page, encoding="utf-8")


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _subtitle(summary: Summary) -> str:
    return (
        f"{summary.attempts:,} attempts in {summary.collecting_s / 60:.1f} minutes, seed "
        f"{summary.seed}; {summary.wall_s / 60:.1f} minutes in all"
    )


def _cards(summary: Summary) -> list[Card]:
    held_out = Card(
        value=_percent(summary.heldout_success),
        text=f"success on objects never seen {_interval(summary.heldout_ci95)}, "
        f"{summary.heldout_attempts} attempts",
        tone="good" if summary.heldout_success is not None else "",
    )
    random = Card(
        value=_percent(summary.random_success),
        text=f"random commands on the same scenes {_interval(summary.random_ci95)}",
    )
    lost = summary.episodes_missing + summary.episodes_duplicated
    episodes = Card(
        value=f"{summary.episodes_stored:,}",
        text=f"episodes stored of {summary.episodes_sent:,} sent; {summary.episodes_missing} "
        f"missing, {summary.episodes_duplicated} doubled",
        tone="good" if lost == 0 and summary.episodes_sent == summary.episodes_stored else "bad",
    )
    truths = [summary.training_truth, summary.heldout_truth]
    false = sum(truth.false_successes for truth in truths if truth)
    claimed = sum(truth.claimed_successes for truth in truths if truth)
    honest = Card(
        value=str(false),
        text=f"false successes among {claimed:,} claimed",
        tone="bad" if false else "good",
    )
    return [held_out, random, episodes, honest]


def _tables(summary: Summary) -> list[Table]:
    tables = [_robots(summary), _hand_eye(summary)]
    if summary.heldout_per_kind:
        tables.append(_kinds(summary))
    return [*tables, _truth(summary), _speed(summary), _memory(summary), _environment(summary)]


def _robots(summary: Summary) -> Table:
    rows = [
        [
            name,
            f"{robot.attempts:,}",
            _rate(robot.rolling_greedy),
            _rate(robot.held_out),
            _rate(robot.random_held_out),
            f"{robot.sent:,}",
            f"{robot.stored:,}",
            str(robot.missing),
            str(robot.duplicated),
        ]
        for name, robot in summary.per_robot.items()
    ]
    if summary.heldout_unseen_camera and summary.heldout_unseen_camera.attempts:
        unseen = _rate(summary.heldout_unseen_camera)
        rows.append(["unseen camera", _NOTHING, _NOTHING, unseen, *[_NOTHING] * 5])
    return Table(
        title="Robots",
        text="The unseen camera stands where no robot's camera stood while learning; that robot "
        "calibrated itself and is not part of the total.",
        headings=[
            "robot",
            "attempts",
            "last greedy attempts",
            "unseen objects",
            "random there",
            "sent",
            "stored",
            "missing",
            "doubled",
        ],
        rows=rows,
    )


def _hand_eye(summary: Summary) -> Table:
    rows = [
        [
            name,
            _number(robot.hand_eye_error_mm.described_mm, "mm"),
            _number(robot.hand_eye_error_mm.found_mm, "mm"),
            _number(robot.hand_eye_error_mm.refined_mm, "mm"),
        ]
        for name, robot in summary.per_robot.items()
    ]
    if summary.unseen_camera:
        unseen = summary.unseen_camera
        found = _number(unseen["found_error_mm"], "mm")
        described = _number(unseen["described_error_mm"], "mm")
        rows.append(["unseen camera", described, found, _NOTHING])
    return Table(
        title="Hand-eye maps",
        text="Mean error over the workspace. The description was falsified on purpose, by up to "
        "2 cm and 15 %.",
        headings=["robot", "as described", "found by own motion", "refined by the learner"],
        rows=rows,
    )


def _kinds(summary: Summary) -> Table:
    return Table(
        title="Unseen objects by kind",
        text="The kind held, or the one nearest to the closed fingers. Scales lie outside the "
        "training range; one kind was left out of training.",
        headings=["kind", "success", "attempts"],
        rows=[
            [kind, _rate(rate), str(rate.attempts)]
            for kind, rate in summary.heldout_per_kind.items()
        ],
    )


def _truth(summary: Summary) -> Table:
    def row(name: str, truth: Truthfulness | None) -> list[str]:
        if truth is None:
            return [name, *[_NOTHING] * 5]
        return [
            name,
            f"{truth.attempts:,}",
            f"{truth.claimed_successes:,}",
            str(truth.false_successes),
            str(truth.missed_successes),
            str(truth.tests_disagree),
        ]

    return Table(
        title="What the robots claimed, against the simulator's own truth",
        headings=["", "attempts", "claimed", "false", "missed", "tests disagree"],
        rows=[row("learning", summary.training_truth), row("evaluation", summary.heldout_truth)],
    )


def _speed(summary: Summary) -> Table:
    rows = [
        ["episodes per second", _number(summary.episodes_per_s, "")],
        ["decision while learning, p50 / p99", _pair(summary.decision_ms)],
        ["decision in evaluation, p50 / p99", _pair(summary.evaluation_decision_ms)],
        ["releases published", str(summary.releases_published)],
        ["release to the last robot, p50 / p99", _pair(summary.release_latency_ms)],
        *(
            [f"rolling success {float(mark):.0%}", _number(seconds, "s")]
            for mark, seconds in summary.time_to.items()
        ),
    ]
    return Table(title="Speed", headings=["", "measured"], rows=rows)


def _memory(summary: Summary) -> Table:
    return Table(
        title="Peak resident memory",
        text="Each process with its children; pages that they share count in each.",
        headings=["process", "memory", "restarts"],
        rows=[
            [name, f"{megabytes:,.0f} MB", str(summary.restarts.get(name, 0))]
            for name, megabytes in sorted(summary.peak_resident_mb.items())
        ],
    )


def _environment(summary: Summary) -> Table:
    return Table(
        title="Made by",
        headings=["", ""],
        rows=[[name, _flat(value)] for name, value in summary.environment.items()],
        prose=True,
    )


def _flat(value: Any) -> str:  # noqa: ANN401 (whatever the environment holds)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items())
    return _NOTHING if value is None else str(value)


def _percent(rate: float | None) -> str:
    return _NOTHING if rate is None else f"{rate:.1%}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:.1%}, {interval[1]:.1%}]"


def _rate(rate: Rate | None) -> str:
    if rate is None or rate.success is None:
        return _NOTHING
    return f"{_percent(rate.success)} {_interval(rate.ci95)}"


def _number(value: float | None, unit: str) -> str:
    return _NOTHING if value is None else f"{value:,.1f} {unit}".rstrip()


def _pair(values: dict[str, float | None]) -> str:
    return f"{_number(values['p50'], 'ms')} / {_number(values['p99'], 'ms')}"
