"""Runbooks within Grafana: an alert links to its page, also where nothing else is reachable."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.builders import text
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.text import TextMode

from fleet.dashboards.panels import link

_TAG = "graspfleet-runbook"


def runbook_pages(folder: Path) -> dict[str, Dashboard]:
    """Return a dashboard for each page of ``folder``, by its place among the dashboards."""
    pages = sorted(path for path in folder.glob("*.md") if path.stem != "README")
    return {f"GraspFleet runbooks/{page.stem}.json": _page(page) for page in pages}


def _page(path: Path) -> Dashboard:
    heading, _, content = path.read_text(encoding="utf-8").partition("\n")
    return (
        Dashboard(heading.removeprefix("# "))
        .uid(f"runbook-{path.stem}")
        .tags([_TAG])
        .readonly()
        .link(link("Fleet", "/d/graspfleet-fleet"))
        .with_panel(
            text.Panel()
            .title("")
            .transparent(True)
            .mode(TextMode.MARKDOWN)
            .content(content.strip() + "\n")
            .span(24)
            .height(24)
        )
    )
