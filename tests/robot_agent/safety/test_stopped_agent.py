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

from fleet.toml_text import toml_text
from learner.config import GatewayConfig
from learner.ingestion.gateway import Gateway
from protocol.configuration import load_toml
from protocol.errors import ConfigurationError
from protocol.hand_eye import pinhole_map
from protocol.security import load_release_secret
from robot_agent.calibrating.calibration import Calibration, keep
from robot_agent.config import AgentConfig
from robot_agent.delivery.outbox import outbox_counts
from robot_agent.safety.stop_latch import StopLatch
from tests.delivery_site import ROOT, STORE_BYTES, wait_until
from tests.robot_agent.drawn_robot import CAMERA, FOV_DEG
from tests.robot_agent.hill_release import hill_release
from tests.robot_agent.safety.recorder import Recorder
from tests.robot_agent.safety.wire_robot import DRIVER, HOLD, SET_POINT
from tests.robot_agent.test_main import make_table


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(tmp_path / "port") as recorder:
        yield recorder


def agent_toml(folder: Path, **changes: object) -> Path:
    """Write the configuration of an agent that knows its hand-eye map, on a recorded line."""
    table = make_table(folder) | {
        "max_attempts": 0,
        "robot": {"driver": DRIVER, "options": {"port": str(folder / "port"), "motion_s": 0.1}},
        "camera": {"driver": "tests.robot_agent.drawn_robot:DrawnCamera"},
        "camera_description": {**CAMERA, "vertical_fov_deg": FOV_DEG},
    }
    path = folder / "robot" / "robot.toml"
    path.write_text(toml_text(table | changes))
    config = load_toml(path, AgentConfig)
    truth = pinhole_map(**CAMERA, vertical_fov_deg=FOV_DEG, aspect=1.0)
    keep(Calibration(hand_eye_map=truth, residual=0.0, trusted=True), config)
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "robot_agent", *map(str, arguments)]


@contextmanager
def running(toml: Path, **options: int) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command("--config", toml), cwd=ROOT, stderr=subprocess.PIPE, text=True, **options
    ) as agent:
        try:
            yield agent
        finally:
            agent.kill()


def ask(*arguments: str | Path, answer: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        input=answer,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


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


def written(state: Path) -> int:
    try:
        return outbox_counts(state).written
    except ConfigurationError:
        return 0


def test_after_a_stop_the_attempt_is_aborted_and_only_a_person_lets_it_go_on(
    tmp_path: Path, line: Recorder
):
    toml, state = agent_toml(tmp_path), tmp_path / "robot" / "state"
    with learner(tmp_path, toml) as gateway, running(toml) as agent:
        wait_until(lambda: written(state) >= 1, "an attempt", deadline_s=60)
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
        wait_until(lambda: written(state) >= 1, "an attempt", deadline_s=60)
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
        wait_until(lambda: line.count(SET_POINT) >= 20, "the arm moves", deadline_s=60)
        os.write(terminal, b"x")
        assert StopLatch(state).read() is None
        os.write(terminal, b" ")
        wait_until(lambda: StopLatch(state).read() is not None, "it stops")
    finally:
        os.kill(agent, 9)
        os.waitpid(agent, 0)
        os.close(terminal)
    assert StopLatch(state).read().why.startswith("by a key in its terminal")


def test_a_dry_run_says_what_it_would_do_and_moves_nothing(tmp_path: Path, line: Recorder):
    toml, state = agent_toml(tmp_path, max_attempts=1), tmp_path / "robot" / "state"
    key = load_release_secret(tmp_path / "keys" / "release.secret")
    (state / "release").write_bytes(hill_release(key=key))
    ended = ask("--config", toml, "--dry-run")
    assert ended.returncode == 0, ended.stderr
    for words in (
        "release 1 decides",
        "would leave the camera's view",
        "would move to x ",
        "wished x ",
        "within the limits x ",
        "predicted success 0.",
        "would close the gripper",
    ):
        assert words in ended.stdout
    assert line.lines == []
    assert not list(state.glob("outbox*"))
