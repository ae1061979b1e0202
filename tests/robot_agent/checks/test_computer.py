"""What the doctor says of the computer: board, disk, clock, keys and ports."""

from __future__ import annotations

import dataclasses
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.security import (
    create_curve_keys,
    create_release_keys,
    load_release_secret,
    write_curve_public,
)
from robot_agent.checks.board import check_board
from robot_agent.checks.clock import check_clock
from robot_agent.checks.disk import check_disk
from robot_agent.checks.keys import check_keys
from robot_agent.checks.last_release import check_release
from robot_agent.checks.serial_port import check_ports
from robot_agent.config import AgentConfig, DriverConfig, OutboxConfig
from robot_agent.robots.check_result import CheckResult, Verdict
from tests.disks import fill_disk, small_disk
from tests.releases import OTHER_KEY, make_release
from tests.robot_agent.simulated_agent import make_config


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    """Return the configuration of a robot whose keys are right."""
    config = make_config(tmp_path)
    create_curve_keys(config.secret_key, config.secret_key.with_suffix(".public"))
    create_curve_keys(tmp_path / "server.secret", config.learner.public_key)
    create_release_keys(tmp_path / "release.secret", config.learner.release_key)
    return config


def only(results: list[CheckResult], verdict: Verdict) -> CheckResult:
    """Return the one result that is not well; it says what to do."""
    (found,) = [one for one in results if one.verdict != Verdict.OK]
    assert found.verdict == verdict
    assert found.remedy
    return found


def are_well(results: list[CheckResult]) -> bool:
    return all(one.verdict == Verdict.OK for one in results)


def board(folder: Path, *, millidegrees: int = 51_000, word: str = "0") -> list[CheckResult]:
    zone = folder / "class/thermal/thermal_zone0"
    firmware = folder / "devices/platform/soc/soc:firmware"
    zone.mkdir(parents=True)
    firmware.mkdir(parents=True)
    (zone / "temp").write_text(f"{millidegrees}\n")
    (firmware / "get_throttled").write_text(f"{word}\n")
    return list(check_board(folder))


def test_a_firmware_that_does_not_answer_is_told_and_does_not_end_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tool = tmp_path / "vcgencmd"
    tool.write_text("#!/bin/sh\nexec sleep 30\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = only(list(check_board(tmp_path / "nothing")), Verdict.WARN)
    assert "the firmware does not say" in found.finding
    assert "timed out" in found.finding


def test_a_firmware_whose_word_is_no_number_is_told(tmp_path: Path):
    assert "does not say" in only(board(tmp_path, word=""), Verdict.WARN).finding


def test_a_cool_board_with_a_firm_supply_is_well(tmp_path: Path):
    assert are_well(board(tmp_path))


def test_a_hot_board_is_told(tmp_path: Path):
    assert "82 C" in only(board(tmp_path, millidegrees=82_000), Verdict.WARN).finding


def test_a_supply_that_is_too_low_now_is_a_failure(tmp_path: Path):
    found = only(board(tmp_path, word="50005"), Verdict.FAIL)
    assert found.finding == "now: supply voltage too low, throttled"
    assert "power supply" in found.remedy


def test_a_supply_that_was_too_low_is_a_warning(tmp_path: Path):
    found = only(board(tmp_path, word="50000"), Verdict.WARN)
    assert found.finding == "since the start: supply voltage too low, throttled"


def test_a_machine_that_tells_nothing_is_well(tmp_path: Path):
    assert are_well(list(check_board(tmp_path)))


def test_a_disk_with_room_is_well_and_nothing_is_left_on_it(config: AgentConfig, tmp_path: Path):
    before = set(tmp_path.iterdir())
    small = dataclasses.replace(config, outbox=OutboxConfig(max_bytes=1_000_000))
    assert are_well(list(check_disk(small, tmp_path / "sys")))
    assert set(tmp_path.iterdir()) == before


def test_an_outbox_that_may_grow_beyond_the_disk_is_a_failure(config: AgentConfig, tmp_path: Path):
    huge = dataclasses.replace(config, outbox=OutboxConfig(max_bytes=10**17))
    assert "outbox.max_bytes" in only(list(check_disk(huge, tmp_path)), Verdict.FAIL).finding


def test_a_full_disk_is_to_be_given_room_and_not_to_another_user(tmp_path: Path):
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        fill_disk(disk / "logs")
        config = dataclasses.replace(make_config(tmp_path), state_folder=disk)
        results = {one.subject: one for one in check_disk(config, tmp_path / "sys")}
    assert results["disk sync"].verdict == Verdict.FAIL
    assert results["disk sync"].remedy == "make room"


def kernel_of(folder: Path, disk: Path, **facts: str) -> Path:
    """Make what the kernel tells of the disk that ``disk`` lies on; it is called mmcblk0p2."""
    device = disk.stat().st_dev
    block = folder / "block/mmcblk0/mmcblk0p2"
    (block.parent / "device").mkdir(parents=True)
    block.mkdir()
    (folder / "dev/block").mkdir(parents=True)
    (folder / f"dev/block/{os.major(device)}:{os.minor(device)}").symlink_to(block)
    (folder / "fs/ext4/mmcblk0p2").mkdir(parents=True)
    for name, text in facts.items():
        place = block.parent / "device" if name == "life_time" else folder / "fs/ext4/mmcblk0p2"
        (place / name).write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize(
    ("facts", "verdict", "said"),
    [
        ({"errors_count": "3"}, Verdict.FAIL, "the file system on mmcblk0p2 has 3 errors"),
        ({"life_time": "0x02 0x0a"}, Verdict.WARN, "100 % of its life is used"),
    ],
)
def test_a_worn_card_is_told(
    config: AgentConfig, tmp_path: Path, facts: dict[str, str], verdict: Verdict, said: str
):
    system = kernel_of(tmp_path / "sys", tmp_path, **facts)
    assert said in only(list(check_disk(config, system)), verdict).finding


def test_a_card_without_errors_is_well(config: AgentConfig, tmp_path: Path):
    facts = {"errors_count": "0", "lifetime_write_kbytes": "2000000", "life_time": "0x01 0x01"}
    results = list(check_disk(config, kernel_of(tmp_path / "sys", tmp_path, **facts)))
    assert are_well(results)
    assert "2.0 GB written in its life" in results[-1].finding


def test_a_clock_before_the_last_release_is_told(config: AgentConfig, tmp_path: Path):
    put_release(config, created_at_ns=4_000_000_000 * 10**9)
    behind = list(check_clock(config, now_ns=3_999_999_000 * 10**9))[-1]
    assert "1000 s earlier than release 1" in only([behind], Verdict.WARN).finding
    assert are_well([list(check_clock(config, now_ns=4_000_000_001 * 10**9))[-1]])


def test_a_release_of_the_bundles_learner_is_well(config: AgentConfig):
    assert are_well(list(check_release(config)))
    put_release(config)
    assert are_well(list(check_release(config)))


def test_a_release_that_another_key_signed_is_told(config: AgentConfig):
    (config.state_folder / "release").write_bytes(make_release(key=OTHER_KEY))
    assert "cannot be used" in only(list(check_release(config)), Verdict.WARN).finding


def put_release(config: AgentConfig, **changes: object) -> None:
    key = load_release_secret(config.state_folder / "release.secret")
    (config.state_folder / "release").write_bytes(make_release(key=key, **changes))


def test_keys_of_one_bundle_are_well(config: AgentConfig):
    assert are_well(list(check_keys(config)))


def test_a_secret_that_others_may_read_is_a_failure(config: AgentConfig):
    config.secret_key.chmod(0o644)
    assert "chmod 600" in only(list(check_keys(config)), Verdict.FAIL).finding


def test_halves_of_two_keys_are_told(config: AgentConfig, tmp_path: Path):
    create_curve_keys(tmp_path / "other.secret", tmp_path / "other.public")
    (tmp_path / "other.public").replace(config.secret_key.with_suffix(".public"))
    assert "another secret" in only(list(check_keys(config)), Verdict.WARN).finding


def test_the_robots_own_key_in_the_learners_place_is_a_failure(config: AgentConfig):
    config.learner.public_key.unlink()
    own = config.secret_key.with_suffix(".public").read_bytes().split()[1]
    write_curve_public(config.learner.public_key, own)
    assert "this robot's own" in only(list(check_keys(config)), Verdict.FAIL).finding


def test_a_missing_key_is_a_failure_and_the_others_are_looked_at(config: AgentConfig):
    config.learner.release_key.unlink()
    results = list(check_keys(config))
    assert len(results) == 3
    assert "is missing" in only(results, Verdict.FAIL).finding


def with_port(config: AgentConfig, port: Path | str) -> AgentConfig:
    gripper = {"driver": "a:B", "port": str(port)}
    return dataclasses.replace(
        config, robot=DriverConfig(driver="a:B", options={"seed": 1, "gripper": gripper})
    )


def test_a_free_port_is_well_and_one_in_use_names_its_user(config: AgentConfig):
    controller, line = pty.openpty()
    path = os.ttyname(line)
    os.close(line)
    config = with_port(config, path)
    assert are_well(list(check_ports(config)))
    hold = "import sys; port = open(sys.argv[1]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        assert user.stdout is not None
        user.stdout.readline()
        found = only(list(check_ports(config)), Verdict.FAIL)
        user.kill()
    os.close(controller)
    assert f"process {user.pid}" in found.finding


@pytest.mark.parametrize(
    ("port", "said"), [("/dev/nothing-here", "No such file"), ("/etc/hostname", "no serial port")]
)
def test_a_port_that_is_not_there_is_a_failure(config: AgentConfig, port: str, said: str):
    assert said in only(list(check_ports(with_port(config, port))), Verdict.FAIL).finding
