"""A whole learner on a Ray of its own: what its trainer says reaches the gateway's endpoint."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from fleet.toml_text import toml_text
from tests.delivery_site import ROOT
from tests.free_ports import free_port
from tests.learner.monitoring.exported import Exported
from tests.learner.spot_task import SIDE_PX, STORE_BYTES, fill_store
from tests.learner_keys import create_learner_keys
from tests.waiting import wait_until

ATTEMPTS = 40


def write_toml(folder: Path, metrics: str) -> Path:
    create_learner_keys(folder / "keys")
    (folder / "registry").mkdir()
    path = folder / "learner.toml"
    path.write_text(
        toml_text(
            {
                "run_folder": "run",
                "image_height_px": SIDE_PX,
                "image_width_px": SIDE_PX,
                "keys": {
                    "server_secret": "keys/server.secret",
                    "release_secret": "keys/release.secret",
                    "registry": "registry",
                },
                "gateway": {
                    "bind": f"tcp://127.0.0.1:{free_port()}",
                    "store": "store",
                    "max_store_bytes": STORE_BYTES,
                    "metrics": {"bind": metrics},
                },
                "releases": {"bind": f"tcp://127.0.0.1:{free_port()}", "folder": "releases"},
                "training": {
                    "batch_size": 16,
                    "first_after_attempts": 10,
                    "max_visits": 1e9,
                    "checkpoint_interval_s": 0.5,
                },
            }
        )
    )
    return path


@pytest.mark.slow
def test_what_the_trainer_says_is_exported_until_it_is_long_silent(tmp_path: Path):
    fill_store(tmp_path / "store", count=ATTEMPTS)
    metrics = f"127.0.0.1:{free_port()}"
    learner = subprocess.Popen(
        [sys.executable, "-m", "learner", "--config", str(write_toml(tmp_path, metrics))], cwd=ROOT
    )

    def value(name: str) -> float:
        assert learner.poll() is None
        try:
            return Exported(metrics).value(name) or 0.0
        except (ConnectionError, urllib.error.URLError):
            return 0.0

    try:
        wait_until(lambda: value("graspfleet_release_version") >= 1, "a release", 240)
        wait_until(
            lambda: value("graspfleet_training_checkpoint_timestamp_seconds") > 0,
            "a checkpoint",
            60,
        )
        found = Exported(metrics)
        assert found.value("graspfleet_training_steps_total") > 0
        assert found.value("graspfleet_training_replay_attempts") == ATTEMPTS
        assert found.value("graspfleet_training_waiting") == 0
        assert found.value("graspfleet_releases_published_total") >= 1
        assert found.value("graspfleet_store_episodes_total") == ATTEMPTS
        created_s = found.value("graspfleet_release_created_timestamp_seconds")
        assert created_s <= found.value("graspfleet_training_last_report_timestamp_seconds") + 1
        assert found.complaints() == ""
    finally:
        learner.send_signal(signal.SIGTERM)
        learner.wait(120)
    assert learner.returncode == 0
