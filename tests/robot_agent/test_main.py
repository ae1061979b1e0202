"""The robot-agent process: what it says and how it exits when it cannot go on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.enrolment import LearnerAddress, create_learner_keys, enrol_robot
from fleet.toml_text import toml_text
from protocol.codec import read_episode_summary
from protocol.configuration import load_toml
from protocol.episode import Label
from protocol.errors import ConfigurationError
from protocol.registry import Registry
from robot_agent.calibrating.calibration import description_digest
from robot_agent.calibrating.own_motion import load_or_find
from robot_agent.config import AgentConfig, OutboxConfig
from robot_agent.delivery.outbox import Outbox, outbox_counts
from robot_agent.drivers import open_camera, open_robot
from tests.delivery_site import ROOT, free_port, wait_until
from tests.robot_agent.simulated_agent import FAULTY_ROBOT, SIMULATED_CAMERA

Table = dict[str, Any]


def make_table(folder: Path) -> Table:
    """Enrol a robot; return a robot.toml that is right, for a learner that is not there."""
    address = LearnerAddress(
        keys=folder / "keys",
        episodes=f"tcp://127.0.0.1:{free_port()}",
        releases=f"tcp://127.0.0.1:{free_port()}",
    )
    create_learner_keys(address.keys)
    (folder / "registry").mkdir()
    enrol_robot(Registry(folder / "registry"), "robot-1", folder / "robot", address)
    return {
        "name": "robot-1",
        "state_folder": "state",
        "secret_key": "robot.secret",
        "max_attempts": 1,
        "robot": {"driver": FAULTY_ROBOT, "options": {"seed": 1}},
        "camera": {"driver": SIMULATED_CAMERA},
        "workspace": {"x_m": [-0.1, 0.1], "y_m": [-0.07, 0.07], "z_m": [0.0, 0.14]},
        "camera_description": {
            "position_m": [-0.34, -0.10, 0.46],
            "look_at_m": [0.0, 0.0, 0.028],
            "vertical_fov_deg": 31.0,
        },
        "learner": {
            "episodes": address.episodes,
            "releases": address.releases,
            "public_key": "server.public",
            "release_key": "release.public",
        },
    }


def write_toml(folder: Path, table: Table) -> Path:
    path = folder / "robot" / "robot.toml"
    path.write_text(toml_text(table))
    return path


def command(toml: Path) -> list[str]:
    return [sys.executable, "-m", "robot_agent", "--config", str(toml)]


def run_agent(folder: Path, table: Table) -> subprocess.CompletedProcess[str]:
    return run_command(write_toml(folder, table))


def run_command(toml: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(toml),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def last_line(stderr: str) -> str:
    return stderr.strip().splitlines()[-1]


def misspelt(table: Table, folder: Path) -> None:
    table["workspace"]["max_stepm"] = 0.3


def out_of_range(table: Table, folder: Path) -> None:
    table["camera_description"]["vertical_fov_deg"] = -31.0


def upside_down(table: Table, folder: Path) -> None:
    table["workspace"]["z_m"] = [0.14, 0.0]


def without_key(table: Table, folder: Path) -> None:
    (folder / "robot" / "server.public").unlink()


def open_to_others(table: Table, folder: Path) -> None:
    (folder / "robot" / "robot.secret").chmod(0o644)


def without_driver(table: Table, folder: Path) -> None:
    table["robot"]["driver"] = "robot_arms.nowhere:Arm"


def without_class(table: Table, folder: Path) -> None:
    table["robot"]["driver"] = "robot_agent.robots.simulated:Arm"


def with_another_class(table: Table, folder: Path) -> None:
    table["robot"]["driver"] = "robot_agent.tally:Tally"


def with_no_class(table: Table, folder: Path) -> None:
    table["robot"]["driver"] = "robot_agent.robots.simulated"


def with_unknown_option(table: Table, folder: Path) -> None:
    table["robot"]["options"]["griper_wear"] = 0.1


def without_port(table: Table, folder: Path) -> None:
    table["learner"]["episodes"] = "tcp://learner.lab"


def with_spaced_name(table: Table, folder: Path) -> None:
    table["name"] = "robot 1"


def with_long_task(table: Table, folder: Path) -> None:
    table["task"] = "x" * 513


def with_fisheye(table: Table, folder: Path) -> None:
    table["camera_description"]["vertical_fov_deg"] = 175.0


def without_folder(table: Table, folder: Path) -> None:
    table["state_folder"] = "server.public/state"


def with_tiny_pictures(table: Table, folder: Path) -> None:
    table["camera"]["width_px"] = 8


def with_another_size(table: Table, folder: Path) -> None:
    table["camera"]["driver"] = "tests.robot_agent.narrow_camera:NarrowCamera"


def with_millimetres(table: Table, folder: Path) -> None:
    table["workspace"]["x_m"] = [-100.0, 100.0]


def with_a_slow_camera(table: Table, folder: Path) -> None:
    table["camera"]["options"] = {"timeout_s": 5.0}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (with_millimetres, ("workspace.x_m: -100.0 to 100.0 is not within 3 m", "in metres?")),
        (with_a_slow_camera, ("camera.options.timeout_s: 5 s", "safety.stall_s, 5 s")),
        (misspelt, ("unknown key 'workspace.max_stepm'", "did you mean 'max_step_m'?")),
        (out_of_range, ("robot.toml", "camera_description.vertical_fov_deg")),
        (upside_down, ("workspace.z_m: 0.14 is not below 0.0",)),
        (without_key, ("robot/server.public", "is missing", "fleet enrol")),
        (open_to_others, ("robot/robot.secret", "mode 0644", "chmod 600")),
        (without_driver, ("'robot_arms.nowhere:Arm'", "No module named", "installed?")),
        (without_class, ("robot_agent.robots.simulated has no Arm",)),
        (with_another_class, ("'robot_agent.tally:Tally'", "is no driver")),
        (with_no_class, ("expected 'module:Class'",)),
        (with_unknown_option, ("unknown key 'griper_wear'", "did you mean 'gripper_wear'?")),
        (without_port, ("learner.episodes: 'tcp://learner.lab'", "tcp://host:port")),
        (with_spaced_name, ("robot.toml", "at name")),
        (with_long_task, ("robot.toml", "at task")),
        (with_fisheye, ("camera_description.vertical_fov_deg",)),
        (without_folder, ("state_folder", "cannot be written: Not a directory")),
        (with_tiny_pictures, ("8x64 px", "16 to 512")),
        (with_another_size, ("pictures of 32x64 px", "camera.width_px", "64x64")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_wrong_configuration_ends_with_status_2_and_one_line_that_names_it(
    tmp_path: Path, spoil: Callable[[Table, Path], None], words: tuple[str, ...]
):
    table = make_table(tmp_path)
    spoil(table, tmp_path)
    ended = run_agent(tmp_path, table)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    line = last_line(ended.stderr)
    assert line.startswith("robot-agent: ")
    for word in words:
        assert word in line


def test_a_missing_file_ends_with_status_2(tmp_path: Path):
    ended = run_command(tmp_path / "no.toml")
    assert ended.returncode == 2
    assert f"{tmp_path}/no.toml: cannot be read: No such file" in ended.stderr


def test_a_robot_that_fails_while_it_starts_ends_with_status_1(tmp_path: Path):
    table = make_table(tmp_path)
    table["robot"]["options"] |= {"fail_at": 1}
    ended = run_agent(tmp_path, table)
    assert ended.returncode == 1
    assert last_line(ended.stderr) == "robot-agent: servo 3 does not answer"


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


def test_a_safety_fault_is_told_even_if_the_robot_cannot_be_closed(tmp_path: Path):
    table = make_table(tmp_path)
    table["robot"]["options"] |= {"fail_at": 1, "fault": "safety-fault", "fails_to_close": True}
    ended = run_agent(tmp_path, table)
    assert ended.returncode == 3, ended.stderr
    assert last_line(ended.stderr) == "robot-agent: emergency stop pressed"
    assert "robot could not be closed" in ended.stderr
    assert "the controller has hung up" in ended.stderr


def test_an_aborted_attempt_is_spooled_and_the_process_goes_on(tmp_path: Path, calibration: bytes):
    table = make_table(tmp_path) | {"max_attempts": 0}
    table["robot"]["options"] |= {"fail_at": 2, "fault": "robot-error"}
    state = with_calibration(tmp_path, table, calibration)
    agent = subprocess.Popen(command(write_toml(tmp_path, table)), cwd=ROOT)
    try:
        wait_until(lambda: written(state) >= 3, "three attempts in the outbox", deadline_s=60)
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


def test_a_second_signal_ends_the_agent_at_once(tmp_path: Path, calibration: bytes):
    table = make_table(tmp_path) | {"max_attempts": 0}
    state = with_calibration(tmp_path, table, calibration)
    agent = subprocess.Popen(command(write_toml(tmp_path, table)), cwd=ROOT)

    def ended() -> bool:
        agent.terminate()
        return agent.poll() is not None

    try:
        wait_until(lambda: written(state) >= 1, "an attempt in the outbox", deadline_s=60)
        # After the first signal it would wait for a learner that is not there.
        wait_until(ended, "it ends")
        assert agent.returncode == -signal.SIGTERM
    finally:
        agent.kill()
        agent.wait()


def test_an_attempt_for_which_there_is_no_room_is_kept_when_the_agent_is_stopped(
    tmp_path: Path, calibration: bytes
):
    table = make_table(tmp_path) | {"max_attempts": 0, "outbox": {"max_bytes": 1000}}
    state = with_calibration(tmp_path, table, calibration)
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        agent = subprocess.Popen(command(write_toml(tmp_path, table)), cwd=ROOT, stderr=stderr)
    try:
        wait_until(lambda: "the robot waits" in log.read_text(), "a full outbox", deadline_s=60)
        assert written(state) == 0
        agent.terminate()
        wait_until(lambda: written(state) == 1, "the attempt is kept")
    finally:
        agent.kill()
        agent.wait()


def test_a_hand_that_cannot_leave_makes_a_record_and_a_pause(tmp_path: Path, calibration: bytes):
    table = make_table(tmp_path) | {"max_attempts": 0}
    table["robot"]["options"] |= {"fail_at": 2, "fault": "stuck"}
    state = with_calibration(tmp_path, table, calibration)
    toml = write_toml(tmp_path, table)
    agent = subprocess.Popen(command(toml), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: written(state) >= 2, "two attempts in the outbox", deadline_s=60)
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
        command(write_toml(tmp_path, table)), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: written(state) >= 1, "an attempt in the outbox", deadline_s=60)
    finally:
        agent.kill()
        _, stderr = agent.communicate()
    assert "an attempt is lost, no learner would accept it: episode" in stderr


def written(state: Path) -> int:
    """Return how many attempts the agent spooled; 0 before it made its outbox."""
    try:
        return outbox_counts(state).written
    except ConfigurationError:
        return 0
