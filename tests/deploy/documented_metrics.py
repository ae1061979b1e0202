"""The table of metrics in docs/metrics.md, read as what it promises."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
_NAME = re.compile(r"`(graspfleet_\w+)`")
_KINDS = {"counter", "gauge", "summary", "histogram"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One row; a row of several names is several metrics."""

    name: str
    kind: str
    labels: frozenset[str]

    def samples(self) -> list[str]:
        """Return the names that queries use."""
        if self.kind == "histogram":
            return [f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count"]
        if self.kind == "summary" and not self.name.endswith(("_sum", "_count")):
            return [f"{self.name}_sum", f"{self.name}_count"]
        return [self.name]


@cache
def documented_metrics() -> list[Metric]:
    """Return every metric of the gateway and of agents, as the page says."""
    return list(_rows(PAGE.read_text()))


def _rows(page: str) -> Iterator[Metric]:
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        names = _NAME.findall(cells[0])
        if len(cells) < 3 or cells[1].split(" ")[0] not in _KINDS:
            continue
        kind = cells[1].split(" ")[0]
        for name in names:
            labels = set(re.findall(r"`(robot|outcome|task|reason|le)`", cells[2]))
            labels |= (
                {"robot"} if name.startswith(("graspfleet_robot_", "graspfleet_agent_")) else set()
            )
            yield Metric(name=name, kind=kind, labels=frozenset(labels))
