"""The agent's unit, by systemd's own judgement."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from robot_agent.__main__ import CONFIGURATION_STATUS, FAILURE_STATUS, SAFETY_STATUS

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/graspfleet-agent@.service"
MOST_EXPOSURE = 3.0


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return the unit of one robot in a folder with the program that it starts."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    program = tmp_path / "robot-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/graspfleet/bin/robot-agent", str(program)))
    return unit


def test_systemd_has_nothing_to_say_about_the_unit(installed: Path):
    done = analyse("verify", installed.with_name("graspfleet-agent@arm-1.service"))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_does_find_what_is_misspelt(installed: Path):
    installed.write_text(installed.read_text().replace("KillMode=", "KilMode="))
    assert "KilMode" in analyse("verify", installed).stderr


def test_the_service_is_little_exposed(installed: Path):
    done = analyse("security", "--offline=true", "--no-pager", installed)
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert float(exposure) < MOST_EXPOSURE


def test_it_is_started_again_after_a_failure_alone():
    never = setting("RestartPreventExitStatus").split()
    assert {int(status) for status in never} == {CONFIGURATION_STATUS, SAFETY_STATUS}
    assert str(FAILURE_STATUS) not in never
    assert setting("Restart") == "on-failure"


def test_it_reaches_serial_ports_and_cameras_and_no_other_device():
    assert setting("DevicePolicy") == "closed"
    allowed = re.findall(r"^DeviceAllow=char-(\S+) rw$", UNIT.read_text(), re.MULTILINE)
    assert allowed == ["ttyACM", "ttyUSB", "ttyAMA", "video4linux"]
    assert setting("SupplementaryGroups") == "dialout video"


def setting(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return value


def analyse(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False
    )
