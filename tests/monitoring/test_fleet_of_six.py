"""A real Prometheus watches a live fleet while its robots fail: the right alerts, and no others."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fleet.dashboards.prometheus import Prometheus
from fleet.dashboards.reading import DashboardView, filled_in, read_dashboard
from fleet.store_reader import open_store, stored_attempts
from tests.monitoring.fleet_of_six import (
    ROBOTS,
    ROOT,
    Alert,
    FleetOfSix,
    PrometheusServer,
    wait_for,
)

DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards" / "GraspFleet").glob("*.json"))
LEARNING_S = 420.0
"""Time of learning without a fault: enough for a past to compare with."""
WELL, BLIND, KILLED, WORN, REVOKED = ROBOTS[0], ROBOTS[1], ROBOTS[2], ROBOTS[3], ROBOTS[4]
WITHIN_S = {
    Alert("RobotCameraDown", BLIND): 150.0,
    Alert("RobotSilent", KILLED): 270.0,
    Alert("KeysRefused", ""): 180.0,
    Alert("RobotGripperZeroDrifted", WORN): 1200.0,
}
"""What must fire, and how soon: the rule's own time, two scrapes, and an attempt or twenty."""
MAY_FIRE = {
    Alert(name, WORN)
    for name in ("RobotDrifted", "RobotSuccessDropped", "RobotBelowFleet", "RobotCalibrationOff")
}
"""A worn gripper grasps worse: whichever of these finds it first."""
WARN = {Alert("RobotWarns", BLIND), Alert("RobotWarns", WORN)}
"""Both say what is wrong with them, which is an alert after a quarter of an hour: on a slow machine
before the last of those that must fire."""
HAS_NO_DATA = {"graspfleet_robot_temperature_celsius"}
"""No simulated part tells its temperature."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")
def test_the_right_alerts_fire_and_no_others(tmp_path: Path):
    watched = tmp_path / "prometheus"
    watched.mkdir()
    with (
        FleetOfSix(root=tmp_path / "run") as fleet,
        PrometheusServer(watched, fleet.metrics_port) as prometheus,
    ):
        began_s = time.time()
        wait_for(lambda: connected(prometheus) == len(ROBOTS), "six robots are connected", 120)
        no_alert_for(prometheus, LEARNING_S)
        fleet.fail(BLIND, "blind")
        fleet.kill(KILLED)
        fleet.fail(WORN, "worn")
        fleet.revoke(REVOKED)
        took = alerts_in_time(prometheus)
        for alert, seconds in sorted(took.items()):
            print(f"{alert.name} {alert.robot or 'fleet'}: after {seconds:.0f} s")
        assert took.keys() & MAY_FIRE, "nobody noticed that the worn gripper grasps worse"
        assert prometheus.value(f'graspfleet_robot_connected{{robot="{REVOKED}"}}') is None

        minutes = (time.time() - began_s) / 60
        draw(prometheus.url, minutes, Path(os.environ.get("GRASPFLEET_PICTURES", tmp_path)))
        every_panel_has_data(Prometheus(prometheus.url), began_s)
        fleet.end_agents()
        what_prometheus_has_is_what_is_stored(prometheus, fleet)


def connected(prometheus: PrometheusServer) -> float | None:
    return prometheus.value("graspfleet_robots_connected")


def no_alert_for(prometheus: PrometheusServer, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert prometheus.firing() == set()
        time.sleep(5.0)


def alerts_in_time(prometheus: PrometheusServer) -> dict[Alert, float]:
    """Return how long each alert took; all that must fire did, and nothing else."""
    began = time.monotonic()
    took: dict[Alert, float] = {}
    while time.monotonic() - began < max(WITHIN_S.values()):
        passed = time.monotonic() - began
        for alert in prometheus.firing() - took.keys():
            took[alert] = passed
        assert took.keys() <= WITHIN_S.keys() | MAY_FIRE | WARN, f"fires without a reason: {took}"
        late = {alert for alert, limit in WITHIN_S.items() if passed > limit} - took.keys()
        assert not late, f"did not fire in time: {late}; {took}"
        if WITHIN_S.keys() <= took.keys() and took.keys() & MAY_FIRE:
            break
        time.sleep(2.0)
    return took


def every_panel_has_data(prometheus: Prometheus, began_s: float) -> None:
    assert len(DASHBOARDS) == 3
    empty = [
        f"{view.title} / {panel.title}: {expr}"
        for view in map(read_dashboard, DASHBOARDS)
        for panel in view.panels
        for expr in (filled_in(target.expr, variables(view)) for target in panel.targets)
        if not any(name in expr for name in HAS_NO_DATA)
        and not prometheus.over(what_may_be_zero(expr), began_s, time.time(), 15.0)
    ]
    assert not empty, "\n".join(empty)


def what_may_be_zero(expr: str) -> str:
    """Return a query that also shows what did not happen, such as a refused message."""
    return re.sub(r"> 0(?![.\d])", "", expr)


def variables(view: DashboardView) -> dict[str, str]:
    rate = {"__rate_interval": "1m", "__range": "30m", "__interval": "15s"}
    return rate | dict(view.variables) | {"robot": WELL}


def draw(url: str, minutes: float, out: Path) -> None:
    command = [sys.executable, "-m", "fleet", "dashboards", "draw", url]
    command = [*command[:-1], "--prometheus", url, "--robot", WORN, "--window", "10m"]
    command += ["--minutes", f"{minutes:.1f}", "--out", str(out)]
    subprocess.run(command, check=True, cwd=ROOT)
    assert len(list(out.glob("dashboard_*.png"))) == 3


def what_prometheus_has_is_what_is_stored(prometheus: PrometheusServer, fleet: FleetOfSix) -> None:
    with open_store(fleet.folder.store) as store:
        attempts = [one.attempt for one in stored_attempts(store)]
    stored = Counter((attempt.robot_id, attempt.label) for attempt in attempts)

    def agrees() -> bool:
        return prometheus.value("sum(graspfleet_store_attempts_total)") == stored.total()

    wait_for(agrees, f"all {stored.total()} attempts in Prometheus", 60)
    for outcome in ("success", "failure", "aborted"):
        found = prometheus.value(f'sum(graspfleet_store_attempts_total{{outcome="{outcome}"}})')
        assert found == sum(n for (_, label), n in stored.items() if label == outcome)
    for name in (WELL, BLIND, KILLED, WORN):
        query = f'sum(graspfleet_robot_attempts_total{{robot="{name}"}})'
        assert prometheus.value(query) == sum(n for (one, _), n in stored.items() if one == name)
    assert prometheus.value("graspfleet_store_missing_episodes") == 0
    what_prometheus_has_is_what_is_released(prometheus, fleet)


def what_prometheus_has_is_what_is_released(
    prometheus: PrometheusServer, fleet: FleetOfSix
) -> None:
    """Releases go on without robots, and Prometheus looks now and then: each catches up."""

    def said() -> int:
        return int(prometheus.value("graspfleet_release_version") or 0)

    released = newest_release(fleet)
    wait_for(lambda: said() >= released, f"release {released} in Prometheus", 60)
    announced = said()
    wait_for(lambda: newest_release(fleet) >= announced, f"the file of release {announced}", 60)


def newest_release(fleet: FleetOfSix) -> int:
    return max(int(path.stem.rpartition("-")[2]) for path in fleet.folder.releases.glob("*.gfrel"))
