"""A robot that was stopped while its agent was off, and one that cannot ask whether it was."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.toml_text import toml_text
from learner.ingestion.gateway import Gateway
from robot_agent.safety.stop_latch import StopLatch
from tests.delivery_site import ROOT, DeliverySite
from tests.integration.test_fleet_stop import given, order_to
from tests.robot_agent.agent_process import command, simulated_bin
from tests.robot_agent.recorded_robot import MOTIONS
from tests.waiting import PATIENCE_S, wait_until

SAFETY_STATUS = 3


@pytest.fixture
def site(site: DeliverySite) -> DeliverySite:
    site.enrol("operator", role="operator")
    site.enrol("arm")
    site.release_secret()
    return site


@pytest.fixture
def start(site: DeliverySite) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Return what starts the robot's agent; it ends with the test."""
    agents: list[subprocess.Popen[bytes]] = []
    toml = write_config(site)

    def start() -> subprocess.Popen[bytes]:
        with (site.folder / "arm.log").open("ab") as log:
            agents.append(
                subprocess.Popen(command("--config", toml), cwd=ROOT, stdout=log, stderr=log)
            )
        return agents[-1]

    yield start
    for agent in agents:
        agent.kill()
        agent.wait()


def write_config(site: DeliverySite) -> Path:
    keys = site.folder / "keys"
    table = {
        "name": "arm",
        "state_folder": str(site.outbox_folder("arm")),
        "secret_key": str(keys / "arm.secret"),
        "robot": {"driver": "tests.robot_agent.recorded_robot:RecordedRobot"},
        "camera": {"driver": "tests.robot_agent.drawn_robot:DrawnCamera"},
        **simulated_bin(),
        "learner": {
            "episodes": site.endpoint,
            "releases": "tcp://127.0.0.1:1",
            "public_key": str(keys / "learner.key"),
            "release_key": str(keys / "release.public"),
        },
    }
    path = site.folder / "robot.toml"
    path.write_text(toml_text(table))
    return path


def order_stop(site: DeliverySite) -> None:
    assert not given(order_to(site, "arm")).is_done


def test_a_robot_that_was_stopped_while_it_was_off_does_not_move_at_all(
    site: DeliverySite, gateway: Gateway, start: Callable[[], subprocess.Popen[bytes]]
):
    order_stop(site)
    agent = start()
    assert agent.wait(PATIENCE_S) == SAFETY_STATUS
    assert not (site.outbox_folder("arm") / MOTIONS).exists()
    assert StopLatch(site.outbox_folder("arm")).read().why == "by operator, over the learner"
    (robot,) = gateway.status().robots
    assert robot.stop is not None
    assert robot.stop.confirmed_at_ns > 0


def test_a_robot_whose_learner_is_away_starts_and_is_stopped_once_the_learner_is_back(
    site: DeliverySite, start: Callable[[], subprocess.Popen[bytes]]
):
    with site.running_gateway():
        order_stop(site)
    agent = start()
    wait_until(lambda: (site.outbox_folder("arm") / MOTIONS).exists(), "it moves")
    assert agent.poll() is None
    with site.running_gateway():
        assert agent.wait(PATIENCE_S) == SAFETY_STATUS
