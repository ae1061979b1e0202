"""A whole agent that is stopped or killed in a motion: what it leaves, and how it goes on."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from learner.config import GatewayConfig
from learner.ingestion.gateway import Gateway
from protocol.configuration import load_toml
from robot_agent.config import AgentConfig
from robot_agent.safety.stop_latch import StopLatch
from tests.delivery_site import ROOT, STORE_BYTES
from tests.robot_agent.agent_process import ask, command, written
from tests.robot_agent.safety.recorder import Recorder
from tests.robot_agent.safety.wire_agent import agent_toml
from tests.robot_agent.safety.wire_robot import HOLD, SET_POINT
from tests.waiting import wait_until


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(tmp_path / "port") as recorder:
        yield recorder


@contextmanager
def running(toml: Path, **options: int) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command("--config", toml), cwd=ROOT, stderr=subprocess.PIPE, text=True, **options
    ) as agent:
        try:
            yield agent
        finally:
            agent.kill()


@contextmanager
def learner(folder: Path, toml: Path) -> Iterator[Gateway]:
    """Run the gateway that an agent's configuration names."""
    endpoint = load_toml(toml, AgentConfig).learner.gateways[0]
    config = GatewayConfig(bind=endpoint, store=folder / "store", max_store_bytes=STORE_BYTES)
    gateway = Gateway(config, folder / "keys" / "server.secret", folder / "registry")
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


def test_after_a_stop_the_attempt_is_aborted_and_only_a_person_lets_it_go_on(
    tmp_path: Path, line: Recorder
):
    toml, state = agent_toml(tmp_path), tmp_path / "robot" / "state"
    with learner(tmp_path, toml) as gateway, running(toml) as agent:
        wait_until(lambda: written(state) >= 1, "an attempt")
        moved = line.count(SET_POINT)
        wait_until(lambda: line.count(SET_POINT) > moved + 10, "the next motion")
        (state / "STOP").touch()
        _, said = agent.communicate(timeout=60)
        [robot] = gateway.status().robots
    assert agent.returncode == 3
    assert robot.recent.endswith("a")
    assert robot.health.safety_stops == 1
    assert (
        said.strip()
        .splitlines()[-1]
        .startswith("robot-agent: robot-1 was stopped by the file STOP in its state folder, at 20")
    )
    assert line.count(HOLD) == 0

    refused = ask("--config", toml)
    assert refused.returncode == 3
    assert refused.stderr.count("\n") == 1
    for words in ("was stopped by the file STOP", "look at the robot", "robot-agent resume"):
        assert words in refused.stderr

    denied = ask("resume", "--config", toml, answer="no\n")
    assert denied.returncode == 1
    assert "robot-1 stays stopped" in denied.stdout
    assert ask("resume", "--config", toml, answer="yes\n").returncode == 0
    assert StopLatch(state).read() is None
    assert "is not stopped" in ask("resume", "--config", toml, "--yes").stdout


def test_an_agent_that_is_killed_in_a_motion_leaves_a_held_arm_and_all_it_finished(
    tmp_path: Path, line: Recorder
):
    toml, state = agent_toml(tmp_path), tmp_path / "robot" / "state"
    with running(toml) as agent:
        wait_until(lambda: written(state) >= 1, "an attempt")
        agent.kill()
        wait_until(lambda: line.lines[-1][1] == HOLD, "the arm is held")
    wait_until(lambda: "holds still" in str(StopLatch(state).read()), "the stop is kept")
    assert written(state) >= 1
    refused = ask("--config", toml)
    assert refused.returncode == 3
    assert "by its guard, because its agent died; the arm holds still" in refused.stderr


def test_space_in_the_agents_terminal_stops_it(tmp_path: Path, line: Recorder):
    toml, state = agent_toml(tmp_path), tmp_path / "robot" / "state"
    agent, terminal = pty.fork()
    if agent == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, command("--config", toml))
    try:
        wait_until(lambda: line.count(SET_POINT) >= 20, "the arm moves")
        os.write(terminal, b"x")
        assert StopLatch(state).read() is None
        os.write(terminal, b" ")
        wait_until(lambda: StopLatch(state).read() is not None, "it stops")
    finally:
        os.kill(agent, 9)
        os.waitpid(agent, 0)
        os.close(terminal)
    assert StopLatch(state).read().why.startswith("by a key in its terminal")
