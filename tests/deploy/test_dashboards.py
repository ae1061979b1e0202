"""The dashboards that lie in deploy/ are what the code says, and hold together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from fleet.dashboards.board import SOURCE_UID
from fleet.dashboards.files import differences, generate, write
from fleet.dashboards.reading import filled_in
from fleet.dashboards.units import written
from tests.deploy.documented_metrics import documented_metrics
from tests.deploy.promql import selected_metrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "grafana" / "dashboards"
RUNBOOKS = ROOT / "docs" / "runbooks"
FILES = sorted(FOLDER.glob("*/*.json"))
VIEWS = sorted(FOLDER.glob("GraspFleet/*.json"))
VALUES = {
    "window": "1h",
    "policy": "greedy",
    "robot": "arm-1",
    "__rate_interval": "1m",
    "__interval": "15s",
}
Table = dict[str, Any]


def board(path: Path) -> Table:
    found: Table = json.loads(path.read_text())
    return found


def panels(path: Path) -> list[Table]:
    return [
        one
        for panel in board(path)["panels"]
        for one in [panel, *panel.get("panels", [])]
        if one["type"] not in ("row", "text")
    ]


def queries(path: Path) -> Iterator[tuple[str, str]]:
    for panel in panels(path):
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", filled_in(target["expr"], VALUES)
    for annotation in board(path)["annotations"].get("list", []):
        yield annotation["name"], filled_in(annotation["expr"], VALUES)


def recorded() -> set[str]:
    text = (ROOT / "deploy/prometheus/rules/recording.yml").read_text()
    return {rule["record"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}


@pytest.fixture(params=VIEWS, ids=lambda path: path.stem)
def view(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_what_lies_there_is_what_the_code_says():
    assert list(differences(FOLDER, RUNBOOKS)) == []


def test_a_changed_a_missing_and_a_superfluous_file_are_named_and_put_right(tmp_path: Path):
    write(tmp_path, RUNBOOKS)
    changed, superfluous, missing = (
        tmp_path / "GraspFleet" / name for name in ("fleet.json", "old.json", "robot.json")
    )
    changed.write_text(changed.read_text().replace('"refresh": "30s"', '"refresh": "1s"'))
    superfluous.write_text("{}")
    missing.unlink()
    named = [str(path.relative_to(tmp_path)) for path in (changed, superfluous, missing)]
    assert list(differences(tmp_path, RUNBOOKS)) == named
    write(tmp_path, RUNBOOKS)
    assert list(differences(tmp_path, RUNBOOKS)) == []
    assert not superfluous.exists()


def test_they_come_out_the_same_every_time():
    assert generate(RUNBOOKS) == generate(RUNBOOKS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_models_of_grafana_read_them_without_loss(path: Path):
    register_default_plugins()
    read = Dashboard.from_json(board(path))
    again = json.loads(json.dumps(read, cls=JSONEncoder, sort_keys=True))
    assert again == board(path)


def test_uids_are_those_that_alerts_and_bookmarks_name():
    uids = {str(path.relative_to(FOLDER)): board(path)["uid"] for path in FILES}
    assert len(set(uids.values())) == len(FILES)
    assert {name: uid for name, uid in uids.items() if name.startswith("GraspFleet/")} == {
        "GraspFleet/fleet.json": "graspfleet-fleet",
        "GraspFleet/learner.json": "graspfleet-learner",
        "GraspFleet/robot.json": "graspfleet-robot",
    }
    pages = {uid for uid in uids.values() if uid.startswith("runbook-")}
    assert pages == {f"runbook-{page.stem}" for page in RUNBOOKS.glob("*.md")}


def test_every_query_is_promql_over_documented_or_recorded_series(view: Path):
    known = {name for metric in documented_metrics() for name in metric.samples()} | recorded()
    known |= {"up", "ALERTS", "process_cpu_seconds_total", "process_resident_memory_bytes"}
    for name, expr in queries(view):
        asked = selected_metrics(promql_parser.parse(expr))
        assert asked - known == set(), name
        assert asked or expr == "vector(1)", name


def test_every_panel_has_a_description_a_unit_and_room_of_its_own(view: Path):
    taken: set[tuple[int, int]] = set()
    for panel in panels(view):
        assert panel["description"].endswith("."), panel["title"]
        if panel["type"] != "table":
            defaults = panel["fieldConfig"]["defaults"]
            written(0.5, defaults["unit"], defaults.get("decimals"))
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


def test_panels_and_queries_have_numbers_and_letters_of_their_own(view: Path):
    numbers = [panel["id"] for panel in panels(view)]
    assert len(set(numbers)) == len(numbers)
    for panel in panels(view):
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs), panel["title"]


def test_overrides_are_of_series_that_a_panel_has(view: Path):
    for panel in panels(view):
        named = {
            one["matcher"]["options"]
            for one in panel["fieldConfig"].get("overrides", [])
            if one["matcher"]["id"] == "byName"
        }
        if panel["type"] == "timeseries":
            legends = {target["legendFormat"] for target in panel["targets"]}
            known = legends | (
                {"success", "failure", "aborted"} if "{{outcome}}" in legends else set()
            )
        else:
            known = {
                name
                for step in panel.get("transformations", [])
                for name in step["options"].get("renameByName", {}).values()
            }
        assert named - known == set(), panel["title"]


def test_everything_asks_the_source_that_the_variable_names(view: Path):
    sources = [panel["datasource"] for panel in panels(view)]
    sources += [target["datasource"] for panel in panels(view) for target in panel["targets"]]
    sources += [one["datasource"] for one in board(view)["annotations"].get("list", [])]
    assert sources
    assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in sources)
    variables = {one["name"]: one for one in board(view)["templating"]["list"]}
    assert variables["datasource"]["current"]["value"] == SOURCE_UID


def test_the_source_that_is_provisioned_is_the_one_they_begin_with():
    text = (FOLDER.parent / "provisioning/datasources/prometheus.yaml").read_text()
    uids = {one["type"]: one["uid"] for one in yaml.safe_load(text)["datasources"]}
    assert uids["prometheus"] == SOURCE_UID


def links(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (one for key, one in value.items() if key == "url")
        yield from (found for one in value.values() for found in links(one))
    elif isinstance(value, list):
        yield from (found for one in value for found in links(one))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_links_lead_to_dashboards_that_there_are(path: Path):
    uids = {board(one)["uid"] for one in FILES}
    found = list(links(board(path)))
    assert found
    for url in found:
        uid = url.removeprefix("/d/").partition("?")[0]
        assert uid in uids or uid == "runbook-${__value.raw}", url


def test_the_compose_file_mounts_what_is_there_and_pins_its_images():
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    assert set(services) == {"prometheus", "alertmanager", "grafana"}
    for service in services.values():
        assert service["image"].rpartition(":")[2][-1].isdigit()
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (ROOT / "deploy" / source).is_dir()


def test_grafana_finds_the_dashboards_where_the_compose_file_mounts_them():
    grafana = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["grafana"]
    provisioning = yaml.safe_load(
        (FOLDER.parent / "provisioning/dashboards/graspfleet.yaml").read_text()
    )
    (provider,) = provisioning["providers"]
    mounted = {one.split(":")[0]: one.split(":")[1] for one in grafana["volumes"]}
    inside = Path(mounted["./grafana/dashboards"])
    assert Path(provider["options"]["path"]) == inside
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (FOLDER / home.relative_to(inside)).is_file()
