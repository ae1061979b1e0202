"""Many agents at once on one learner machine: all are served, nothing is lost, status answers."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.operator import operator_connection, release_connection
from fleet.releases import ReleaseClient
from fleet.status import StatusClient
from tests.chaos.fleet_under_fire import FirePlan, FleetUnderFire

AGENTS = 150


def wait_until(fleet: FleetUnderFire, condition: Callable[[], bool], what: str) -> None:
    for _ in fleet.wait(120.0):
        if condition():
            return
    pytest.fail(f"not within 120 s: {what}")


def reached(fleet: FleetUnderFire) -> int:
    return sum(group.reached for group in fleet.groups)


def test_agents_that_all_begin_at_once_are_served_again_after_the_gateway_was_killed(
    tmp_path: Path,
):
    go = tmp_path / "go"
    plan = FirePlan(
        agents=0,
        groups=2,
        robots_per_group=AGENTS // 2,
        interval_s=30.0,
        gateway_alone=True,
        releases_alone=True,
        group_options=("--releases", "--go", str(go)),
    )
    with FleetUnderFire(tmp_path, plan) as fleet:
        wait_until(fleet, lambda: all(group.bursts for group in fleet.groups), "all have episodes")
        go.touch()
        wait_until(fleet, lambda: reached(fleet) == AGENTS, "every agent has an episode acked")
        assert_all_are_known(fleet)
        for group in fleet.groups:
            group.tell(signal.SIGUSR1)
        wait_until(
            fleet, lambda: all(group.bursts == 2 for group in fleet.groups), "they have more"
        )
        assert reached(fleet) == 0, "what they have is held back"
        fleet.learner.kill()
        for group in fleet.groups:
            group.tell(signal.SIGUSR2)
        wait_until(fleet, lambda: reached(fleet) == AGENTS, "every agent delivers again")
        fleet.end()
        found = fleet.comparison()
        assert found.is_clean, found
        assert found.stored >= 2 * AGENTS


def assert_all_are_known(fleet: FleetUnderFire) -> None:
    with StatusClient(*operator_connection(fleet.folder)) as client:
        status = client.fetch()
    connected = {robot.robot_id for robot in status.robots if robot.connected}
    assert connected == {robot for group in fleet.groups for robot in group.robots}
    with ReleaseClient(*release_connection(fleet.folder)) as client:
        assert client.fetch().current == 0, "the release server answers meanwhile"
