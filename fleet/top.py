"""``fleet top``: the fleet in a terminal, live, the worst robots first."""

from __future__ import annotations

import time
from collections import Counter

from rich.console import Console, Group
from rich.text import Text

from fleet.concern import LEARNER, Concern, Severity
from fleet.monitor import fleet_success
from fleet.overview import Overview
from fleet.proportion import Proportion
from fleet.releases import in_words
from fleet.status import rolling_greedy
from fleet.table import plain_table
from fleet.words import counted, duration
from protocol.messages import RobotStatus

_HEADINGS = (
    *("robot", "state", "greedy", "lately", "seen", "release", "attempts"),
    *("outbox", "missing", "decision", "version"),
)
_QUIET = {"outbox", "missing", "decision", "version"}
_LEVELS = " ▁▂▃▄▅▆▇█"
_BLOCKS = 10
_LETTERS_PER_BLOCK = 20
_STYLES = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}
_CHROME_ROWS = 6
"""Headline of up to two lines, heading, what has no room, a blank line and the cursor's."""


def screen_of(overview: Overview, concerns: list[Concern], console: Console) -> Group:
    """Return what fits into the terminal: headline, concerns, robots, the worst of each first."""
    room = max(4, console.height - _CHROME_ROWS)
    shown = concerns[: max(1, room // 2)]
    lines = [_line(concern) for concern in shown]
    if len(concerns) > len(shown):
        lines.append(Text(f"... and {len(concerns) - len(shown)} more: fleet status", style="dim"))
    robots = _worst_first(overview.status.robots, concerns)
    fitting = robots[: max(1, room - len(lines))]
    body: list[Text] = [headline(overview, concerns), *lines, Text("")]
    if fitting:
        body.append(_table(fitting, overview, concerns, console.width))
    if len(robots) > len(fitting):
        body.append(Text(f"... and {len(robots) - len(fitting)} robots more", style="dim"))
    return Group(*body)


def headline(overview: Overview, concerns: list[Concern]) -> Text:
    """Return how the fleet is, in one line."""
    status = overview.status
    connected = sum(robot.connected for robot in status.robots)
    facts = [
        time.strftime("%H:%M:%S"),
        f"{connected} of {counted(len(status.robots), 'robot')} connected",
        f"greedy success {fleet_success(status.robots)}",
        f"release {overview.newest_release or 'none yet'}",
        f"{counted(status.episodes_stored, 'episode')} stored",
        f"up {duration(status.uptime_s)}",
    ]
    text = Text(f"{verdict(concerns)} ", style="")
    text.stylize(_style(concerns))
    return text.append(" · ".join(facts))


def verdict(concerns: list[Concern]) -> str:
    """Return how the fleet is, in a word or two; notes do not count."""
    counts = Counter(concern.severity for concern in concerns if not concern.is_note)
    if not counts:
        return "well"
    return ", ".join(f"{counts[each]} {each}" for each in Severity if counts[each])


def sparkline(recent: str) -> str:
    """Return the success of the last attempts, oldest first, one block per 20 attempts.

    Args:
        recent: as RobotStatus has it; aborted attempts do not count.
    """
    finished = [letter in "sS" for letter in recent if letter in "sSfF"]
    finished = finished[-_BLOCKS * _LETTERS_PER_BLOCK :]
    blocks = [
        finished[max(0, end - _LETTERS_PER_BLOCK) : end]
        for end in range(len(finished), 0, -_LETTERS_PER_BLOCK)
    ]
    rates = [Proportion.of(block).rate or 0.0 for block in reversed(blocks)]
    # A block of failures is the lowest line, not a gap.
    return "".join(_LEVELS[1 + round(rate * (len(_LEVELS) - 2))] for rate in rates)


def _table(
    robots: list[RobotStatus], overview: Overview, concerns: list[Concern], width: int
) -> Text:
    rows = [_cells(robot, overview, concerns) for robot in robots]
    return plain_table(_HEADINGS, rows, width=width, quiet=_QUIET, left={"state", "lately"})


def _cells(robot: RobotStatus, overview: Overview, concerns: list[Concern]) -> list[str]:
    version = robot.release_version
    listing = overview.listing
    return [
        robot.robot_id,
        _state(robot, overview, concerns),
        str(rolling_greedy(robot)),
        sparkline(robot.recent),
        "never" if robot.last_seen_s < 0 else duration(robot.last_seen_s),
        str(version or "none") if listing is None else in_words(version, robot.robot_id, listing),
        str(robot.attempts),
        str(robot.outbox_episodes),
        str(robot.missing),
        f"{robot.decision_ms_p50:.0f} ms" if robot.decision_ms_p50 else "-",
        robot.software_version or "-",
    ]


def _state(robot: RobotStatus, overview: Overview, concerns: list[Concern]) -> str:
    if robot.robot_id not in overview.members:
        return "shut out"
    own = [
        concern.severity
        for concern in concerns
        if concern.about == robot.robot_id and not concern.is_note
    ]
    if own:
        return min(own, key=list(Severity).index)
    return "well" if robot.connected else "away"


def _worst_first(robots: list[RobotStatus], concerns: list[Concern]) -> list[RobotStatus]:
    rank = {name: place for place, name in reversed(list(enumerate(c.about for c in concerns)))}
    return sorted(robots, key=lambda robot: (rank.get(robot.robot_id, len(rank)), robot.robot_id))


def _line(concern: Concern) -> Text:
    name = "" if concern.about == LEARNER else f"{concern.about}: "
    remedy = f"; {concern.remedy}" if concern.remedy else ""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{concern.severity:<8} ", style=_STYLES[concern.severity])
    return text.append(f"{name or 'learner: '}{concern.says}{remedy}")


def _style(concerns: list[Concern]) -> str:
    if not concerns or concerns[0].is_note:
        return "bold green"
    return _STYLES[concerns[0].severity]
