"""Real agents as processes, watched through the learner and at their own endpoint."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fleet.enrolment import LearnerAddress, enrol_robot
from fleet.toml_text import toml_text
from learner.config import GatewayConfig, MetricsConfig
from learner.ingestion.gateway import Gateway
from protocol.http_server import AT_ONCE
from protocol.registry import Registry
from tests.delivery_site import ROOT, STORE_BYTES
from tests.free_ports import free_port
from tests.learner.monitoring.exported import Exported
from tests.learner_keys import create_learner_keys
from tests.robot_agent.agent_process import Table, command, simulated_bin
from tests.robot_agent.simulated_agent import FAULTY_ROBOT, SIMULATED_CAMERA
from tests.waiting import wait_until

SAFETY_STATUS = 3
IDLE = 300


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    create_learner_keys(tmp_path / "keys")
    (tmp_path / "registry").mkdir()
    config = GatewayConfig(
        bind=f"tcp://127.0.0.1:{free_port()}",
        store=tmp_path / "store",
        max_store_bytes=STORE_BYTES,
        metrics=MetricsConfig(bind="127.0.0.1:0"),
    )
    gateway = Gateway(config, tmp_path / "keys" / "server.secret", tmp_path / "registry")
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def start(tmp_path: Path, gateway: Gateway) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Return what starts an agent; it ends with the test."""
    agents: list[subprocess.Popen[bytes]] = []

    def start(name: str, options: Table, **changes: Any) -> subprocess.Popen[bytes]:
        toml = write_bundle(tmp_path, gateway.endpoint, name, options, changes)
        log = (tmp_path / f"{name}.log").open("wb")
        agents.append(subprocess.Popen(command("--config", toml), cwd=ROOT, stdout=log, stderr=log))
        return agents[-1]

    yield start
    for agent in agents:
        agent.kill()
        agent.wait()


def write_bundle(folder: Path, endpoint: str, name: str, options: Table, changes: Table) -> Path:
    """Enrol a robot; return its robot.toml."""
    releases = f"tcp://127.0.0.1:{free_port()}"
    address = LearnerAddress(keys=folder / "keys", episodes=endpoint, releases=releases)
    enrol_robot(Registry(folder / "registry"), name, folder / name, address)
    table = {
        "name": name,
        "state_folder": "state",
        "secret_key": "robot.secret",
        "robot": {"driver": FAULTY_ROBOT, "options": {"seed": 1, **options}},
        "camera": {"driver": SIMULATED_CAMERA},
        **simulated_bin(),
        "learner": {
            "episodes": endpoint,
            "releases": releases,
            "public_key": "server.public",
            "release_key": "release.public",
        },
        **changes,
    }
    path = folder / name / "robot.toml"
    path.write_text(toml_text(table))
    return path


def documented_of_an_agent() -> set[str]:
    """Return the names that the document gives an agent's own metrics."""
    text = (ROOT / "docs/metrics.md").read_text().partition("## An agent's own endpoint")[2]
    found: set[str] = set()
    for cell in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE):
        first, *others = re.findall(r"`(\w+)`", cell)
        stem = "_".join(first.split("_")[:2])
        found |= {first, *(other if other.startswith(stem) else stem + other for other in others)}
    return found


def targets(gateway: Gateway) -> dict[str, str]:
    """Return where live agents offer an endpoint, by robot."""
    with urllib.request.urlopen(f"http://{gateway.metrics_endpoint}/targets") as answer:
        groups = json.load(answer)
    name = "__meta_graspfleet_robot"
    return {
        group["labels"][name]: group["targets"][0] for group in groups if name in group["labels"]
    }


def hold_idle_connections(agent: subprocess.Popen[bytes], endpoint: str) -> None:
    """Assert that the process which moves the arm has few threads and descriptors for them."""
    process = Path("/proc") / str(agent.pid)
    before = {part: len(list((process / part).iterdir())) for part in ("task", "fd")}
    host, _, port = endpoint.rpartition(":")
    with ExitStack() as connections:
        for _ in range(IDLE):
            connections.enter_context(socket.create_connection((host, int(port))))
        # It is served after all those before it.
        assert "graspfleet_agent_attempts_total" in Exported(endpoint).families
        for part, count in before.items():
            # Besides them the agent goes on as it does.
            assert len(list((process / part).iterdir())) <= count + AT_ONCE + 16, part


def test_an_agents_own_endpoint_is_found_and_agrees_with_the_learner(
    gateway: Gateway, start: Callable[..., subprocess.Popen[bytes]]
):
    agent = start("arm", {}, metrics={"bind": f"127.0.0.1:{free_port()}"})
    total = "graspfleet_agent_attempts_total"

    def made() -> int:
        found = Exported(targets(gateway)["arm"])
        return sum(
            found.value(total, robot="arm", outcome=outcome, task="bin-picking") or 0
            for outcome in ("success", "failure", "aborted")
        )

    wait_until(lambda: "arm" in targets(gateway) or agent.poll() is not None, "it is listed", 90)
    wait_until(lambda: made() >= 3, "attempts are counted")
    found = Exported(targets(gateway)["arm"])
    # It has no wire, no release and no thermometer.
    absent = {name for name in documented_of_an_agent() if "_bus_" in name} | {
        "graspfleet_agent_release_created_timestamp_seconds",
        "graspfleet_agent_temperature_celsius",
    }
    # Known only after some attempts.
    later = {"graspfleet_agent_servo_rate_hertz", "graspfleet_agent_camera_shift_pixels"}
    ours = {name for name in found.families if name.startswith("graspfleet_")}
    assert ours - later == documented_of_an_agent() - absent - later
    assert found.complaints() == ""
    assert found.value("graspfleet_agent_connected", robot="arm") == 1
    hold_idle_connections(agent, targets(gateway)["arm"])
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(60) == 0
    learners = Exported(gateway.metrics_endpoint)
    stored = learners.value("graspfleet_robot_stored_episodes_total", robot="arm")
    assert stored == sum(
        learners.value("graspfleet_robot_attempts_total", robot="arm", outcome=outcome) or 0
        for outcome in ("success", "failure", "aborted")
    )
    assert stored >= 3
    assert learners.value("graspfleet_robot_servos_up", robot="arm") == 1


@pytest.mark.parametrize(
    ("fault", "metric"),
    [
        ("safety-fault", "graspfleet_robot_safety_stops_total"),
        pytest.param("robot-error", "graspfleet_robot_servo_faults_total", marks=pytest.mark.slow),
    ],
)
def test_the_learner_knows_of_a_fault_also_when_it_ended_the_agent(
    gateway: Gateway, start: Callable[..., subprocess.Popen[bytes]], fault: str, metric: str
):
    # The first motions find the hand-eye map.
    agent = start("arm", {"fail_at": 45, "fault": fault})
    wait_until(
        lambda: Exported(gateway.metrics_endpoint).value(metric, robot="arm") == 1,
        "the fault is exported",
        within_s=120,
    )
    if fault == "safety-fault":
        assert agent.wait(60) == SAFETY_STATUS
        assert Exported(gateway.metrics_endpoint).value(metric, robot="arm") == 1
