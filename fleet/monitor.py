"""Live progress of a fleet in the terminal; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fleet.proportion import Proportion
from fleet.releases import in_words
from fleet.status import rolling_greedy, rolling_success
from protocol.messages import ReleaseList, RobotStatus, StatusReply

_LINE_INTERVAL_S = 10.0
_RATE_WINDOW_S = 15.0
_MOST_NOTES = 6


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
        """Say the result; it stays below the display when that has ended."""
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
        parts = [Text(plain_line(progress, status, rate), style="bold")]
        body: list[Table | Text] = [*parts]
        if status is not None:
            body.append(robot_table(status.robots))
        body.extend(Text(note, style="yellow") for note in self._notes)
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
            f"release {status.release_version}",
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


def robot_table(robots: Iterable[RobotStatus], listing: ReleaseList | None = None) -> Table:
    """Return one row per robot, and one for the fleet.

    Args:
        robots: as the gateway knows them.
        listing: of the release server; with it the table says who is behind or pinned.
    """
    robots = list(robots)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("robot", "attempts", "greedy success", "all", "release"):
        table.add_column(heading, justify="left" if heading == "robot" else "right")
    for heading in ("outbox", "missing", "decision", "wire", "version", "last seen"):
        table.add_column(heading, justify="right")
    for robot in robots:
        table.add_row(*_cells(robot, listing))
    if len(robots) > 1:
        every = _sum(rolling_success(robot) for robot in robots)
        attempts = str(sum(robot.attempts for robot in robots))
        table.add_row("fleet", attempts, str(fleet_success(robots)), str(every), style="bold")
    return table


def _cells(robot: RobotStatus, listing: ReleaseList | None) -> list[str]:
    version = robot.release_version
    seen = "never" if robot.last_seen_s < 0 else f"{robot.last_seen_s:.0f} s ago"
    return [
        robot.robot_id,
        str(robot.attempts),
        str(rolling_greedy(robot)),
        str(rolling_success(robot)),
        str(version) if listing is None else in_words(version, robot.robot_id, listing),
        str(robot.outbox_episodes),
        str(robot.missing),
        f"{robot.decision_ms_p50:.1f} ms",
        str(robot.wire_version or "-"),
        robot.software_version or "-",
        seen if robot.connected else f"{seen}, gone",
    ]


def status_warnings(status: StatusReply) -> list[str]:
    """Return what a person should know of the learner and of every robot, in words."""
    return status.warnings + [
        f"{robot.robot_id}: {warning}" for robot in status.robots for warning in robot.warnings
    ]


def _sum(proportions: Iterable[Proportion]) -> Proportion:
    return sum(proportions, Proportion(successes=0, attempts=0))
