"""An agent whose disk fails while it works: who is told, and how it ends."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fleet.toml_text import toml_text
from learner.ingestion.gateway import Gateway
from tests.delivery_site import ROOT, DeliverySite
from tests.disks import ext4_disk, fail_disk
from tests.robot_agent.agent_process import command, last_line, simulated_bin, written
from tests.robot_agent.simulated_agent import FAULTY_ROBOT, SIMULATED_CAMERA
from tests.waiting import PATIENCE_S, wait_until


def write_config(site: DeliverySite, state: Path) -> Path:
    site.enrol("arm")
    site.release_secret()
    keys = site.folder / "keys"
    table = {
        "name": "arm",
        "state_folder": str(state),
        "secret_key": str(keys / "arm.secret"),
        "robot": {"driver": FAULTY_ROBOT, "options": {"seed": 1}},
        "camera": {"driver": SIMULATED_CAMERA},
        **simulated_bin(),
        "learner": {
            "episodes": site.endpoint,
            "releases": "tcp://127.0.0.1:1",
            "public_key": str(keys / "learner.key"),
            "release_key": str(keys / "release.public"),
        },
    }
    path = site.folder / "robot.toml"
    path.write_text(toml_text(table))
    return path


def is_told(gateway: Gateway, words: str) -> bool:
    (robot,) = gateway.status().robots
    return any(words in warning for warning in robot.warnings)


def test_an_agent_whose_disk_fails_ends_in_words_and_tells_the_learner(
    site: DeliverySite, tmp_path: Path
):
    with (
        ext4_disk(tmp_path / "image", tmp_path / "disk") as disk,
        site.running_gateway() as gateway,
    ):
        log = tmp_path / "log.txt"
        toml = write_config(site, disk / "state")
        with log.open("w") as file:
            agent = subprocess.Popen(command("--config", toml), cwd=ROOT, stderr=file)
        try:
            wait_until(lambda: written(disk / "state") > 0, "an attempt is made")
            fail_disk(disk)
            assert agent.wait(PATIENCE_S) == 1, log.read_text()
        finally:
            agent.kill()
            agent.wait()
        said = last_line(log.read_text())
        assert said.startswith("robot-agent: arm ends, and an attempt is lost: outbox")
        assert f"the disk at {disk} takes no writes" in said
        assert "Traceback" not in log.read_text()
        wait_until(lambda: is_told(gateway, "replace the card"), "the learner is told")
