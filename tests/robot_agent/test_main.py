"""The robot-agent's start: what it says and how it exits when it cannot begin."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox
from robot_agent.safety.stop_latch import Stop, StopLatch
from tests.delivery_site import ROOT
from tests.disks import fill_disk, small_disk
from tests.robot_agent.agent_process import (
    Table,
    ask,
    command,
    last_line,
    make_table,
    run_agent,
    write_toml,
)
from tests.waiting import PATIENCE_S


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


def with_a_file_as_folder(table: Table, folder: Path) -> None:
    table["state_folder"] = "server.public"


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
        (with_a_file_as_folder, ("robot/server.public cannot be written: Not a directory",)),
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
    ended = ask("--config", tmp_path / "no.toml")
    assert ended.returncode == 2
    assert f"{tmp_path}/no.toml: cannot be read: No such file" in ended.stderr


def test_a_robot_that_fails_while_it_starts_ends_with_status_1(tmp_path: Path):
    table = make_table(tmp_path)
    table["robot"]["options"] |= {"fail_at": 1}
    ended = run_agent(tmp_path, table)
    assert ended.returncode == 1
    assert last_line(ended.stderr) == "robot-agent: servo 3 does not answer"


def test_an_agent_on_a_full_disk_ends_with_status_1_for_systemd_starts_it_again(tmp_path: Path):
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        table = make_table(tmp_path) | {"state_folder": str(disk / "state")}
        Outbox(disk / "state", OutboxConfig()).close()
        fill_disk(disk / "logs")
        ended = run_agent(tmp_path, table)
    assert ended.returncode == 1, ended.stderr
    assert "the disk is full (0 bytes are free); free some space" in last_line(ended.stderr)


def test_a_safety_fault_is_told_even_if_the_robot_cannot_be_closed(tmp_path: Path):
    table = make_table(tmp_path)
    table["robot"]["options"] |= {"fail_at": 1, "fault": "safety-fault", "fails_to_close": True}
    ended = run_agent(tmp_path, table)
    assert ended.returncode == 3, ended.stderr
    assert last_line(ended.stderr) == "robot-agent: emergency stop pressed"
    assert "robot could not be closed" in ended.stderr
    assert "the controller has hung up" in ended.stderr


@pytest.mark.parametrize("arguments", [("--dry-run",), ("resume",), ("check",)])
def test_no_command_takes_a_file_for_the_folder_in_which_stops_are_kept(
    tmp_path: Path, arguments: tuple[str, ...]
):
    table = make_table(tmp_path)
    with_a_file_as_folder(table, tmp_path)
    ended = ask(*arguments, "--config", write_toml(tmp_path, table))
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("robot-agent: state_folder")
    assert ended.stderr.count("\n") == 1


def test_ctrl_c_at_the_question_whether_a_robot_may_go_on_leaves_it_stopped(tmp_path: Path):
    toml = write_toml(tmp_path, make_table(tmp_path))
    latch = StopLatch(toml.parent / "state")
    latch.set(Stop.now("by a test"))
    asking = subprocess.Popen(
        command("resume", "--config", toml),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    said = b""
    while not said.endswith(b"[y/N] "):
        said += asking.stdout.read(1) or pytest.fail(f"it asked nothing, it said {said!r}")
    asking.send_signal(signal.SIGINT)
    _, stderr = asking.communicate(timeout=PATIENCE_S)
    assert asking.returncode == 130
    assert stderr == b"\nrobot-agent: interrupted\n"
    assert latch.read() is not None
