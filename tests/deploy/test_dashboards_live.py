"""A real Prometheus, with our configuration, answers every query of every panel."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fleet.dashboards.picture import Shown, draw_dashboard
from fleet.dashboards.prometheus import Prometheus, RefusedQueryError
from fleet.dashboards.reading import PanelView, filled_in, read_dashboard
from protocol.errors import TransientError
from tests.deploy import exporter
from tests.free_ports import free_port
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
VIEWS = sorted((ROOT / "deploy/grafana/dashboards/GraspFleet").glob("*.json"))
WINDOW = {"window": "10m", "policy": "greedy", "robot": exporter.ROBOTS[0]}
RANGES = {"__rate_interval": "1m", "__interval": "15s", "__range": "60s"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not installed; make monitoring-test needs it")
    folder = tmp_path_factory.mktemp("prometheus")
    config = folder / "prometheus.yml"
    port = free_port()
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with exporter.serving() as learner:
        config.write_text(yaml.safe_dump(faster_configuration(learner)))
        process = subprocess.Popen(command)
        try:
            server = Prometheus(f"http://127.0.0.1:{port}")
            wait_for(server, "fleet:realised_success_high:ratio and on () fleet:success:ratio")
            yield server
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def faster_configuration(port: int) -> dict[str, object]:
    """Return the lab's configuration with our exporter for a learner, looking every half second."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "500ms", "scrape_timeout": "500ms"}
    config["global"]["evaluation_interval"] = "500ms"
    config["rule_files"] = [str(ROOT / "deploy/prometheus/rules/*.yml")]
    del config["alerting"]
    (learner, _) = config["scrape_configs"]
    learner["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    config["scrape_configs"] = [learner]
    found: dict[str, object] = config
    return found


def wait_for(server: Prometheus, expr: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if server.latest(expr, time.time()):
                return
        except TransientError:
            pass  # not listening yet
        time.sleep(0.2)
    pytest.fail(f"{expr} had no value within a minute")


# What has a value only when something is wrong, or a day has passed.
EMPTY_WHEN_WELL = {"What wants looking at"}
PANELS = [
    pytest.param(panel, id=f"{path.stem}-{panel.title}")
    for path in VIEWS
    for panel in read_dashboard(path).panels
    if panel.targets
]


@pytest.mark.parametrize("panel", PANELS)
def test_every_query_of_every_panel_has_data(panel: PanelView, prometheus: Prometheus):
    for target in panel.targets:
        expr = filled_in(target.expr, {**WINDOW, **RANGES})
        wait_for_answer(prometheus, expr, may_be_empty=panel.title in EMPTY_WHEN_WELL)


def wait_for_answer(server: Prometheus, expr: str, *, may_be_empty: bool) -> None:
    if may_be_empty:
        server.latest(expr, time.time())
    else:
        wait_for(server, expr)


def test_a_query_that_is_none_is_refused_in_prometheus_own_words(prometheus: Prometheus):
    with pytest.raises(RefusedQueryError, match="parse error"):
        prometheus.latest("sum by (", time.time())


@pytest.mark.parametrize("path", VIEWS, ids=lambda path: path.stem)
def test_a_dashboard_is_drawn_from_what_prometheus_has(
    path: Path, prometheus: Prometheus, tmp_path: Path
):
    end_s = time.time()
    shown = Shown(
        prometheus=prometheus, start_s=end_s - 60, end_s=end_s, variables=WINDOW, robot=""
    )
    picture = tmp_path / "picture.png"
    draw_dashboard(path, shown, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 50_000
