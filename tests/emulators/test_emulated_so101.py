"""Whoever has no arm can try the agent on an emulated one, as docs/hardware.md shows."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.delivery_site import ROOT
from tests.waiting import PATIENCE_S, wait_until

COMMANDS = re.findall(
    r"^(robot-agent .*tests/emulators/so101\.toml.*)$",
    (ROOT / "docs/hardware.md").read_text(),
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def toml(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Serve the arm somewhere else than the page does."""
    folder = tmp_path_factory.mktemp("arm")
    text = (ROOT / "tests/emulators/so101.toml").read_text().replace("/tmp/arm", f"{folder}/arm")
    toml = folder / "so101.toml"
    toml.write_text(f"max_attempts = 1\n{text}")
    command = [
        "tests.emulators",
        "feetech",
        f"{folder}/arm",
        "--calibration",
        f"{folder}/arm-state",
    ]
    emulator = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT)
    try:
        wait_until((folder / "arm").exists, "the arm is there")
        yield toml
    finally:
        emulator.terminate()
        emulator.wait(PATIENCE_S)


def test_the_page_shows_a_check_and_a_dry_run():
    assert [command.split()[1] for command in COMMANDS] == ["check", "run"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[1])
def test_the_agent_has_no_complaint_about_the_emulated_arm(toml: Path, command: str):
    arguments = command.replace("tests/emulators/so101.toml", str(toml)).split()[1:]
    done = subprocess.run(
        [sys.executable, "-m", "robot_agent", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_no_arm_has_no_calibration(tmp_path: Path):
    command = [
        "tests.emulators",
        "robotiq",
        f"{tmp_path}/arm",
        "--calibration",
        f"{tmp_path}/state",
    ]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "robotiq is no arm of feetech, dynamixel" in done.stderr
