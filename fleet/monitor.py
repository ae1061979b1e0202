"""Live progress of a fleet in the terminal; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fleet.proportion import Proportion
from fleet.releases import in_words
from fleet.status import rolling_greedy, rolling_success
from fleet.table import plain_table
from fleet.words import duration
from protocol.messages import ReleaseList, RobotStatus, StatusReply

_LINE_INTERVAL_S = 10.0
_RATE_WINDOW_S = 15.0
_MOST_NOTES = 6
_HEADINGS = (
    *("robot", "seen", "release", "attempts", "greedy", "missing", "conflicts"),
    *("outbox", "decision", "all", "tombstoned", "wire", "version", "gateway"),
)
_QUIET = {*("missing", "conflicts", "outbox", "decision"), *_HEADINGS[-4:]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What the fleet's process knows beside the gateway's status."""

    phase: str
    left_s: float | None
    """Seconds of collecting left; None when the phase has no end in time."""
    detail: str = ""


class Monitor:
    """Shows the newest status; ``note`` adds a line that stays."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._notes: deque[str] = deque(maxlen=_MOST_NOTES)
        self._said: set[str] = set()
        self._counts: deque[tuple[float, int]] = deque()
        self._last_line_at = float("-inf")
        self._last_phase = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, text: str) -> None:
        """Say something that a person should not miss."""
        if self._live is None:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self._notes.append(text)

    def say_last(self, text: str) -> None:
        """Say the result, below the display, which ends here."""
        if self._live is not None:
            self._live.stop()
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, progress: Progress, status: StatusReply | None) -> None:
        """Bring the display up to date."""
        rate = self._rate(status)
        for warning in status_warnings(status) if status is not None else []:
            if warning not in self._said:
                self._said.add(warning)
                self.note(f"warning: {warning}")
        if self._live is not None:
            self._live.update(self._panel(progress, status, rate), refresh=True)
        elif self._line_is_due(progress):
            line = plain_line(progress, status, rate)
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _line_is_due(self, progress: Progress) -> bool:
        now = time.monotonic()
        due = now - self._last_line_at >= _LINE_INTERVAL_S or progress.phase != self._last_phase
        if due:
            self._last_line_at, self._last_phase = now, progress.phase
        return due

    def _rate(self, status: StatusReply | None) -> float:
        """Return stored episodes per second over the last moments."""
        now = time.monotonic()
        if status is not None:
            self._counts.append((now, status.episodes_stored))
        while len(self._counts) > 2 and now - self._counts[0][0] > _RATE_WINDOW_S:
            self._counts.popleft()
        if len(self._counts) < 2:
            return 0.0
        (t0, n0), (t1, n1) = self._counts[0], self._counts[-1]
        return (n1 - n0) / max(t1 - t0, 1e-6)

    def _panel(self, progress: Progress, status: StatusReply | None, rate: float) -> Group:
        headline = Text(plain_line(progress, status, rate), style="bold")
        # Above the table: that of a large fleet is cut off where the terminal ends.
        body: list[Text] = [headline, *(Text(note, style="yellow") for note in self._notes)]
        if status is not None:
            body.append(robot_table(status.robots, width=self._console.width))
        return Group(*body)


def plain_line(progress: Progress, status: StatusReply | None, rate: float) -> str:
    """Return the whole fleet in one line."""
    words = [progress.phase]
    if progress.left_s is not None:
        minutes, seconds = divmod(max(0, round(progress.left_s)), 60)
        words.append(f"{minutes}:{seconds:02d} left")
    if status is not None:
        attempts = sum(robot.attempts for robot in status.robots)
        greedy = fleet_success(status.robots)
        words += [
            f"{attempts} attempts",
            f"{status.episodes_stored} stored",
            f"{rate:.1f}/s",
            f"release {status.release_version or 'none'}",
            f"greedy success {greedy}"
            if greedy.attempts
            else f"random success {_sum(rolling_success(robot) for robot in status.robots)}",
        ]
    if progress.detail:
        words.append(progress.detail)
    return " · ".join(words)


def fleet_success(robots: Iterable[RobotStatus]) -> Proportion:
    """Return the rolling greedy success of all robots together."""
    return _sum(rolling_greedy(robot) for robot in robots)


def robot_table(
    robots: Iterable[RobotStatus],
    listing: ReleaseList | None = None,
    members: Collection[str] | None = None,
    *,
    width: int,
) -> Text:
    """Return one row per robot, and one for the fleet.

    Args:
        robots: as the gateway knows them.
        listing: of the release server; with it the table says who is behind or pinned.
        members: who may speak; with it the table says who is shut out.
        width: of the terminal, in characters.
    """
    robots = list(robots)
    rows = [_cells(robot, listing, members) for robot in robots]
    if len(robots) > 1:
        rows.append(_fleet_cells(robots))
    return plain_table(_HEADINGS, rows, width=width, quiet=_QUIET, has_total=len(robots) > 1)


def _cells(
    robot: RobotStatus, listing: ReleaseList | None, members: Collection[str] | None
) -> list[str]:
    version = robot.release_version
    is_out = members is not None and robot.robot_id not in members
    return [
        robot.robot_id,
        "shut out" if is_out else _seen(robot),
        str(version or "none") if listing is None else in_words(version, robot.robot_id, listing),
        str(robot.attempts),
        str(rolling_greedy(robot)),
        str(robot.missing),
        str(robot.conflicts),
        str(robot.outbox_episodes),
        f"{robot.decision_ms_p50:.0f} ms" if robot.decision_ms_p50 else "-",
        str(rolling_success(robot)),
        str(robot.tombstoned),
        str(robot.wire_version or "-"),
        robot.software_version or "-",
        robot.gateway.removeprefix("tcp://") or "-",
    ]


def _fleet_cells(robots: list[RobotStatus]) -> list[str]:
    cells = {
        "robot": "fleet",
        "attempts": str(sum(robot.attempts for robot in robots)),
        "greedy": str(fleet_success(robots)),
        "all": str(_sum(rolling_success(robot) for robot in robots)),
    }
    return [cells.get(heading, "") for heading in _HEADINGS]


def _seen(robot: RobotStatus) -> str:
    """Say when a robot was heard last."""
    if robot.last_seen_s < 0:
        return "never"
    ago = f"{duration(robot.last_seen_s)} ago"
    return ago if robot.connected else f"gone {ago}"


def status_warnings(status: StatusReply) -> list[str]:
    """Return what a person should know of the learner and of every robot, in words."""
    said = status.warnings + [
        f"{robot.robot_id}: {warning}" for robot in status.robots for warning in robot.warnings
    ]
    return said + [
        f"{robot.robot_id}: episodes came under the sequence of others; 'fleet episodes verify' "
        "says how many and what that may mean"
        for robot in status.robots
        if robot.conflicts
    ]


def _sum(proportions: Iterable[Proportion]) -> Proportion:
    return sum(proportions, Proportion(successes=0, attempts=0))
