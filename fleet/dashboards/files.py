"""The generated files: what is on disk is what the code says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard as Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel, RowPanel

from fleet.dashboards.fleet_view import fleet_view
from fleet.dashboards.learner_view import learner_view
from fleet.dashboards.robot_view import robot_view
from fleet.dashboards.runbook_pages import runbook_pages

FOLDER = Path("deploy/grafana/dashboards")
RUNBOOKS = Path("docs/runbooks")
VIEWS: dict[str, Callable[[], Builder]] = {
    "GraspFleet/fleet.json": fleet_view,
    "GraspFleet/robot.json": robot_view,
    "GraspFleet/learner.json": learner_view,
}
"""By their places under the folder; Grafana makes a folder of the same name."""


def generate(runbooks: Path) -> dict[str, str]:
    """Return the text of every file by its place under the dashboards' folder."""
    views = {place: as_text(build()) for place, build in VIEWS.items()}
    pages = {place: as_text(page) for place, page in runbook_pages(runbooks).items()}
    return views | pages


def write(folder: Path, runbooks: Path) -> list[Path]:
    """Write every dashboard, remove what is generated no longer; return what changed."""
    wanted = generate(runbooks)
    changed = list(differences(folder, runbooks))
    for place in changed:
        path = folder / place
        if place in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[place], encoding="utf-8")
        else:
            path.unlink()
    return [folder / place for place in changed]


def differences(folder: Path, runbooks: Path) -> Iterator[str]:
    """Yield the places of files that are missing, superfluous, or say something else."""
    wanted = generate(runbooks)
    present = {str(path.relative_to(folder)): path for path in folder.glob("*/*.json")}
    for place in sorted(wanted.keys() | present.keys()):
        path = present.get(place)
        if path is None or path.read_text(encoding="utf-8") != wanted.get(place):
            yield place


def as_text(builder: Builder) -> str:
    """Return a dashboard as Grafana reads it; each panel gets the number of its place."""
    board = builder.build()
    for number, panel in enumerate(_all_panels(board), start=1):
        panel.id_val = number
    return json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _all_panels(board: Dashboard) -> Iterator[Panel | RowPanel]:
    for panel in board.panels or []:
        yield panel
        if isinstance(panel, RowPanel):
            yield from panel.panels
