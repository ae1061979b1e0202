"""Agent and gateway on machines of their own, with a cable between them that somebody pulls."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import ConfigurationError
from robot_agent.delivery.outbox import outbox_counts
from robot_agent.delivery.outbox_file import FILE_NAME
from tests.chaos.independent_reader import compare, read_store
from tests.delivery_site import DeliverySite, make_site
from tests.network_namespaces import NETWORK, Machine, connect, two_machines
from tests.waiting import PATIENCE_S, wait_until

PORT = 5701
RECONNECTED_WITHIN_S = 90.0


class Deployment:
    """A gateway on one machine and a robot on the other, and what is under way between them."""

    def __init__(self, site: DeliverySite, robot: Machine, learner: Machine) -> None:
        self.site = site
        self.robot = robot
        self.learner = learner
        self._processes: list[subprocess.Popen[bytes]] = []

    def start_gateway(self) -> subprocess.Popen[bytes]:
        """Start the gateway at every address of its machine."""
        gateway = self._start(self.learner, f"tcp://*:{PORT}", "gateway")
        log = self.site.folder / "gateway.log"
        heard = log.read_text().count("gateway listens")
        wait_until(lambda: log.read_text().count("gateway listens") > heard, "listening")
        return gateway

    def start_robot(self, episodes: int, *, learner: str) -> subprocess.Popen[bytes]:
        """Start a robot that delivers so many episodes to a learner at this host."""
        return self._start(self.robot, f"tcp://{learner}:{PORT}", "robot", "arm", str(episodes))

    def _start(self, machine: Machine, endpoint: str, *program: str) -> subprocess.Popen[bytes]:
        (self.site.folder / "endpoint").write_text(endpoint)
        process = self.site.start(*program, within=machine.prefix)
        self._processes.append(process)
        return process

    @property
    def acked(self) -> int:
        try:
            return outbox_counts(self.site.outbox_folder("arm")).acked
        except ConfigurationError:
            return 0  # it has not made its outbox yet

    def wait_for(self, acked: int) -> None:
        wait_until(lambda: self.acked >= acked, f"{acked} acked", RECONNECTED_WITHIN_S)

    def report_reconnection(self, fault: str) -> None:
        """Wait until more is acked than now."""
        began_s, before = time.monotonic(), self.acked
        self.wait_for(before + 1)
        print(f"{fault}: delivering again after {time.monotonic() - began_s:.1f} s")

    def assert_all_stored_once(self, robot: subprocess.Popen[bytes], episodes: int) -> None:
        """Let the robot finish, then count what is in the store."""
        assert robot.wait(RECONNECTED_WITHIN_S) == 0
        self.stop()
        outbox = self.site.outbox_folder("arm") / FILE_NAME
        found = compare(read_store(self.site.store), {"arm": outbox}, {})
        assert found.expected == episodes
        assert found.is_clean, found

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(PATIENCE_S)
        self._processes.clear()


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with two_machines() as (robot, learner):
        site = make_site(tmp_path)
        site.enrol("arm")
        deployment = Deployment(site, robot, learner)
        yield deployment
        deployment.stop()


@pytest.mark.parametrize(
    "down_s",
    [1.0, pytest.param(12.0, marks=pytest.mark.chaos), pytest.param(60.0, marks=pytest.mark.chaos)],
)
def test_a_cable_that_was_pulled_out_for_a_while(deployment: Deployment, down_s: float):
    deployment.start_gateway()
    robot = deployment.start_robot(300, learner=deployment.learner.address)
    deployment.wait_for(30)
    deployment.robot.switch("down")
    time.sleep(down_s)
    deployment.robot.switch("up")
    deployment.report_reconnection(f"cable out for {down_s:.0f} s")
    deployment.assert_all_stored_once(robot, 300)


@pytest.mark.chaos
def test_a_robot_that_moves_to_another_address(deployment: Deployment):
    deployment.start_gateway()
    robot = deployment.start_robot(300, learner=deployment.learner.address)
    deployment.wait_for(30)
    deployment.robot.move_to(f"{NETWORK}.77")
    deployment.report_reconnection("robot at another address")
    deployment.assert_all_stored_once(robot, 300)


@pytest.mark.chaos
def test_a_learner_that_moves_to_another_address_under_its_name(deployment: Deployment):
    deployment.start_gateway()
    deployment.robot.name_host("learner", deployment.learner.address)
    robot = deployment.start_robot(300, learner="learner")
    deployment.wait_for(30)
    deployment.learner.move_to(f"{NETWORK}.99")
    deployment.robot.name_host("learner", f"{NETWORK}.99")
    deployment.report_reconnection("learner at another address")
    deployment.assert_all_stored_once(robot, 300)


def test_a_learner_that_comes_back_on_other_hardware_at_its_address(deployment: Deployment):
    gateway = deployment.start_gateway()
    robot = deployment.start_robot(300, learner=deployment.learner.address)
    deployment.wait_for(30)
    gateway.kill()
    gateway.wait()
    deployment.learner.ip("link", "delete", "cable")
    connect(deployment.robot, deployment.learner)
    deployment.robot.plug_in()
    deployment.learner.plug_in()
    deployment.start_gateway()
    deployment.report_reconnection("learner on other hardware")
    deployment.assert_all_stored_once(robot, 300)
