"""Whole processes stopped, and many killed at once: robots go on, nothing missing or doubled."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns

import pytest

from tests.chaos.fleet_under_fire import FirePlan, FleetUnderFire
from tests.chaos.journal import read_journals

STOPPED_S = 4.0


def wait_until(fleet: FleetUnderFire, condition: Callable[[], bool], what: str) -> None:
    for _ in fleet.wait(120.0):
        if condition():
            return
    pytest.fail(f"not within 120 s: {what}")


def spooled_between(fleet: FleetUnderFire, begin_ns: int, end_ns: int) -> dict[str, int]:
    """Return how many episodes each robot's own journal says it spooled then."""
    journals = read_journals(group.journal for group in fleet.groups)
    return {
        robot: sum(begin_ns <= at_ns <= end_ns for at_ns in journal.spooled_at_ns)
        for robot, journal in journals.items()
    }


def test_robots_go_on_while_the_learner_is_stopped_and_lose_nothing(tmp_path: Path):
    plan = FirePlan(agents=0, groups=1, robots_per_group=6, interval_s=0.25, gateway_alone=True)
    with FleetUnderFire(tmp_path, plan) as fleet:
        fleet.wait_until_delivering(120.0)
        begin_ns = monotonic_ns()
        fleet.gateway().send_signal(signal.SIGSTOP)
        acked_then = fleet.acked
        for _ in fleet.wait(STOPPED_S):
            pass
        end_ns = monotonic_ns()
        fleet.gateway().send_signal(signal.SIGCONT)
        wait_until(fleet, lambda: fleet.acked > acked_then + 50, "robots deliver again")
        fleet.end()
        meanwhile = spooled_between(fleet, begin_ns, end_ns)
        assert len(meanwhile) == 6
        assert all(count >= 2 for count in meanwhile.values()), meanwhile
        assert fleet.comparison().is_clean


def test_two_hundred_agents_that_restart_at_once_are_all_welcome_again(tmp_path: Path):
    plan = FirePlan(agents=0, groups=2, robots_per_group=100, interval_s=8.0, gateway_alone=True)
    with FleetUnderFire(tmp_path, plan) as fleet:
        fleet.wait_until_delivering(120.0)
        wait_until(fleet, lambda: fleet.acked > 20, "episodes flow")
        for group in fleet.groups:
            group.service.kill()
        fleet.wait_until_delivering(120.0)
        acked_then = fleet.acked
        wait_until(fleet, lambda: fleet.acked > acked_then + 20, "episodes flow again")
        fleet.end()
        found = fleet.comparison()
        assert found.is_clean, found
        assert found.stored > 40
