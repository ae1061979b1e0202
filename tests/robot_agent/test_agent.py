"""An agent at work: what it spools and says when something fails, and how it ends."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protocol.codec import read_episode_summary
from protocol.configuration import load_toml
from protocol.episode import Label
from protocol.errors import RobotError
from robot_agent.agent import closed_zero_m, own_draws
from robot_agent.calibrating.calibration import description_digest
from robot_agent.calibrating.own_motion import load_or_find
from robot_agent.config import AgentConfig, OutboxConfig
from robot_agent.delivery.outbox import Outbox
from robot_agent.drivers import open_camera, open_robot
from tests.delivery_site import ROOT
from tests.robot_agent.agent_process import (
    Table,
    command,
    last_line,
    make_table,
    run_agent,
    write_toml,
    written,
)
from tests.robot_agent.simulated_agent import make_site
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the calibration file of the robot of these tests."""
    folder = tmp_path_factory.mktemp("calibrated")
    config = load_toml(write_toml(folder, make_table(folder)), AgentConfig)
    config.state_folder.mkdir()
    robot = open_robot(config)
    load_or_find(robot, open_camera(config.camera, robot), config, np.random.default_rng(0))
    return (config.state_folder / "calibration.json").read_bytes()


def with_calibration(folder: Path, table: Table, calibration: bytes) -> Path:
    """Return the state folder of a robot that need not look for its map."""
    config = load_toml(write_toml(folder, table), AgentConfig)
    saved = json.loads(calibration) | {"description_sha256": description_digest(config)}
    config.state_folder.mkdir()
    (config.state_folder / "calibration.json").write_text(json.dumps(saved))
    return config.state_folder


def test_a_safety_fault_ends_the_process_with_status_3(tmp_path: Path, calibration: bytes):
    table = make_table(tmp_path)
    table["robot"]["options"] |= {"fail_at": 2, "fault": "safety-fault"}
    state = with_calibration(tmp_path, table, calibration)
    ended = run_agent(tmp_path, table)
    assert ended.returncode == 3, ended.stderr
    assert last_line(ended.stderr) == "robot-agent: emergency stop pressed"
    outbox = Outbox(state, OutboxConfig())
    [spooled] = outbox.unsent(0, limit_bytes=10**9)
    outbox.close()
    outcome = read_episode_summary(spooled.record).outcome
    assert (outcome.label, outcome.abort_reason) == (Label.ABORTED, "emergency stop pressed")


def test_an_aborted_attempt_is_spooled_and_the_process_goes_on(tmp_path: Path, calibration: bytes):
    table = make_table(tmp_path) | {"max_attempts": 0}
    table["robot"]["options"] |= {"fail_at": 2, "fault": "robot-error"}
    state = with_calibration(tmp_path, table, calibration)
    agent = subprocess.Popen(command("--config", write_toml(tmp_path, table)), cwd=ROOT)
    try:
        wait_until(lambda: written(state) >= 3, "three attempts in the outbox")
        assert agent.poll() is None
    finally:
        agent.kill()
        agent.wait()
    outbox = Outbox(state, OutboxConfig())
    spooled = outbox.unsent(0, limit_bytes=10**9)[:3]
    outbox.close()
    outcomes = [read_episode_summary(one.record).outcome for one in spooled]
    assert outcomes[0].abort_reason == "servo 3 does not answer"
    assert [outcome.label == Label.ABORTED for outcome in outcomes] == [True, False, False]


def test_an_attempt_for_which_there_is_no_room_is_kept_when_the_agent_is_stopped(
    tmp_path: Path, calibration: bytes
):
    table = make_table(tmp_path) | {"max_attempts": 0, "outbox": {"max_bytes": 1000}}
    state = with_calibration(tmp_path, table, calibration)
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        agent = subprocess.Popen(
            command("--config", write_toml(tmp_path, table)), cwd=ROOT, stderr=stderr
        )
    try:
        wait_until(lambda: "the robot waits" in log.read_text(), "a full outbox")
        assert written(state) == 0
        time.sleep(3)  # in which it looks for room six times
        agent.terminate()
        wait_until(lambda: written(state) == 1, "the attempt is kept")
        wait_until(lambda: "the learner has up to 20 s" in log.read_text(), "it says how it ends")
    finally:
        agent.kill()
        agent.wait()
    assert "a second signal ends it at once" in log.read_text()

    assert log.read_text().count("the robot waits") <= 2, "not at every look"


@pytest.mark.parametrize(("is_foreseen", "attempts"), [(True, 2), (False, 1)])
def test_an_attempt_is_kept_before_its_robot_is_asked_how_it_is(
    tmp_path: Path, calibration: bytes, *, is_foreseen: bool, attempts: int
):
    table = make_table(tmp_path) | {"max_attempts": 2}
    table["robot"] = {
        "driver": "tests.robot_agent.faulty_robot:FeverlessRobot",
        "options": {"seed": 1, "is_foreseen": is_foreseen},
    }
    state = with_calibration(tmp_path, table, calibration)
    ended = run_agent(tmp_path, table)
    assert written(state) == attempts, ended.stderr
    assert (ended.returncode == 0) == is_foreseen
    assert ("temperature is unknown" in ended.stderr) == is_foreseen


def test_an_agent_that_is_to_end_before_it_is_ready_ends_without_another_motion(tmp_path: Path):
    toml, log = write_toml(tmp_path, make_table(tmp_path)), tmp_path / "log"
    with log.open("wb") as stderr:
        agent = subprocess.Popen(command("--config", toml), cwd=ROOT, stderr=stderr)
    try:
        wait_until(lambda: "no word from the learner" in log.read_text(), "it opens its robot")
        agent.terminate()
        assert agent.wait(PATIENCE_S) == 0, log.read_text()
    finally:
        agent.kill()
        agent.wait()
    assert "asked to end before it was ready" in log.read_text()
    assert not (tmp_path / "robot" / "state" / "calibration.json").exists()


def test_a_hand_that_cannot_leave_makes_a_record_and_a_pause(tmp_path: Path, calibration: bytes):
    table = make_table(tmp_path) | {"max_attempts": 0}
    table["robot"]["options"] |= {"fail_at": 2, "fault": "stuck"}
    state = with_calibration(tmp_path, table, calibration)
    toml = write_toml(tmp_path, table)
    agent = subprocess.Popen(command("--config", toml), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: written(state) >= 2, "two attempts in the outbox")
    finally:
        agent.kill()
        _, stderr = agent.communicate()
    assert "the hand cannot leave the bin: the arm is blocked" in stderr
    assert "attempt aborted: servo 3 does not answer; next try in 0.5 s" in stderr


def test_an_attempt_that_no_learner_would_accept_is_said_and_the_next_one_made(
    tmp_path: Path, calibration: bytes
):
    table = make_table(tmp_path) | {"max_attempts": 2}
    table["robot"]["options"] |= {"misreads_opening": 2}
    state = with_calibration(tmp_path, table, calibration)
    agent = subprocess.Popen(
        command("--config", write_toml(tmp_path, table)),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: written(state) >= 1, "an attempt in the outbox")
    finally:
        agent.kill()
        _, stderr = agent.communicate()
    assert "an attempt is lost, no learner would accept it: episode" in stderr


def test_a_second_signal_ends_the_agent_at_once(tmp_path: Path, calibration: bytes):
    table = make_table(tmp_path) | {"max_attempts": 0}
    state = with_calibration(tmp_path, table, calibration)
    agent = subprocess.Popen(command("--config", write_toml(tmp_path, table)), cwd=ROOT)

    def ended() -> bool:
        agent.terminate()
        return agent.poll() is not None

    try:
        wait_until(lambda: written(state) >= 1, "an attempt in the outbox")
        # After the first signal it would wait for a learner that is not there.
        wait_until(ended, "it ends")
        assert agent.returncode == -signal.SIGTERM
    finally:
        agent.kill()
        agent.wait()


def test_the_grippers_zero_is_what_it_reads_when_it_closes_on_nothing(tmp_path: Path):
    options = {"opening_drift_m": 0.0015, "gripper_wear": 0.5}
    robot = make_site(tmp_path, options).robot
    assert math.isclose(closed_zero_m(robot), 0.0015 + 0.0004, abs_tol=3e-4)
    assert robot.state().opening_m > 0.07


@pytest.mark.parametrize("reading_m", [0.02, -0.02, math.nan])
def test_a_gripper_that_closes_on_something_is_not_zeroed(tmp_path: Path, reading_m: float):
    robot = make_site(tmp_path).robot
    robot.close_gripper = lambda: reading_m
    with pytest.raises(RobotError, match="is something between the fingers"):
        closed_zero_m(robot)


def test_no_two_robots_explore_alike_though_all_have_the_seed_that_is_the_default(tmp_path: Path):
    config = load_toml(write_toml(tmp_path, make_table(tmp_path)), AgentConfig)
    names = [config.name, "robot-2", "robot-10"]
    draws = [
        own_draws(replace(config, name=name), written).random()
        for name in names
        for written in (0, 1)
    ]
    assert len(set(draws)) == len(draws)
    assert own_draws(config, 0).random() == draws[0]
