"""What the README says of a lab's own learner works as it is written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from fleet.operator import operator_connection
from fleet.run_folder import RunFolder
from fleet.status import StatusClient
from protocol.errors import GraspFleetError
from tests.delivery_site import ROOT
from tests.free_ports import free_port
from tests.waiting import wait_until


def test_a_lab_enrols_a_robot_starts_its_learner_and_asks_for_the_status(tmp_path: Path):
    lab = tmp_path / "lab"
    lab.mkdir()
    shutil.copy(ROOT / "deploy" / "learner.example.toml", lab / "learner.toml")
    take_free_ports(lab / "learner.toml")
    enrol = [sys.executable, "-m", "fleet", "enrol", "arm-1", "--run", str(lab)]
    bundle = tmp_path / "bundle"
    subprocess.run([*enrol, "--bundle", str(bundle)], cwd=ROOT, check=True, timeout=60)
    assert {"robot.secret", "server.public", "release.public"} <= {p.name for p in bundle.iterdir()}

    command = [sys.executable, "-m", "learner", "--config", str(lab / "learner.toml")]
    with (tmp_path / "log").open("wb") as log:
        learner = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        wait_until(lambda: robots_known_to(lab) == ["arm-1"], "the learner's status", 120.0)
    finally:
        learner.terminate()
        assert learner.wait(timeout=90) == 0


def take_free_ports(learner_toml: Path) -> None:
    text = learner_toml.read_text()
    for port in ("5701", "5702"):
        text = text.replace(f"0.0.0.0:{port}", f"127.0.0.1:{free_port()}")
    learner_toml.write_text(text)


def robots_known_to(lab: Path) -> list[str]:
    try:
        with StatusClient(*operator_connection(RunFolder.existing(lab))) as client:
            return [robot.robot_id for robot in client.fetch().robots]
    except GraspFleetError:  # not up yet
        return []
