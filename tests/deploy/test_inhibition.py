"""Who is told of what, and when, while more is wrong, asked of a real Alertmanager."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S, wait_until

CONFIG = Path(__file__).parents[2] / "deploy" / "alertmanager" / "alertmanager.yml"
NAMES = ("alertmanager", "prometheus-alertmanager")


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    """Start one with our configuration; yield where its alerts are."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("alertmanager is not installed (docs/monitoring.md)")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    command = [
        found,
        f"--config.file={CONFIG}",
        f"--storage.path={tmp_path}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until(lambda: is_ready(address), "Alertmanager is ready")
            yield f"http://{address}/api/v2/alerts"
        finally:
            process.terminate()
            process.wait()


def is_ready(address: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{address}/-/ready", timeout=PATIENCE_S).close()
    except urllib.error.URLError:
        return False
    return True


def tell(alerts_url: str, firing: list[dict[str, str]]) -> None:
    body = json.dumps([{"labels": labels} for labels in firing]).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(
        urllib.request.Request(alerts_url, body, headers), timeout=PATIENCE_S
    ).close()


def silenced(alerts_url: str, firing: list[dict[str, str]]) -> set[str]:
    """Return the names of those alerts that are not told, since others fire."""
    tell(alerts_url, [*firing, LAST])
    found: list[dict[str, str]] = []

    def has_judged_the_last() -> bool:
        with urllib.request.urlopen(alerts_url, timeout=PATIENCE_S) as answer:
            alerts = json.load(answer)
        found[:] = [one["labels"] for one in alerts if one["status"]["inhibitedBy"]]
        return LAST in found

    wait_until(has_judged_the_last, "Alertmanager has looked at every alert", 10.0)
    return {labels["alertname"] for labels in found if labels != LAST}


FLEET = [
    {"alertname": "RobotSafetyStop", "robot": "arm-1", "severity": "critical"},
    {"alertname": "RobotSilent", "robot": "arm-2", "severity": "warning"},
    {"alertname": "FleetDisconnected", "severity": "critical"},
    {"alertname": "TrainerSilent", "severity": "warning"},
    {"alertname": "DiskFilling", "severity": "warning"},
]
LAST = {"alertname": "RobotSilent", "robot": "arm-1", "severity": "warning"}
"""Silenced by the first of FLEET. Alertmanager takes alerts one after the other: when it knows
that, it knows what all before it silence."""


def test_one_gateway_of_several_that_is_down_silences_nothing_of_the_fleet(alertmanager: str):
    down = {"alertname": "GatewayDown", "instance": "b", "severity": "warning"}
    fleet = [one for one in FLEET if one["alertname"] != "FleetDisconnected"]
    assert silenced(alertmanager, [down, *fleet]) == set()


def test_a_learner_that_is_down_silences_what_follows_from_it_and_no_safety_stop(
    alertmanager: str,
):
    down = {"alertname": "LearnerDown", "severity": "critical"}
    expected = {"RobotSilent", "FleetDisconnected", "TrainerSilent"}
    assert silenced(alertmanager, [down, *FLEET]) == expected


def test_what_is_critical_of_one_robot_does_not_wait_for_the_next_message_about_another(
    alertmanager: str,
):
    robots = ["arm-1", "arm-2"]
    tell(
        alertmanager,
        [{"alertname": "RobotSafetyStop", "severity": "critical", "robot": one} for one in robots],
    )
    groups: list[list[str]] = []

    def both_are_known() -> bool:
        with urllib.request.urlopen(f"{alertmanager}/groups", timeout=PATIENCE_S) as answer:
            found = json.load(answer)
        groups[:] = [[one["labels"]["robot"] for one in group["alerts"]] for group in found]
        return sum(map(len, groups)) == len(robots)

    wait_until(both_are_known, "Alertmanager has grouped both")
    assert sorted(groups) == [["arm-1"], ["arm-2"]]
