"""What an agent of a real robot needs: no simulator, little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fleet.toml_text import toml_text
from learner.networks import build_network
from learner.releases.builder import ReleaseBuilder
from protocol.errors import ConfigurationError
from protocol.release_manifest import CollectionSettings
from protocol.security import load_release_secret
from robot_agent.delivery.outbox import outbox_counts
from tests.delivery_site import ROOT
from tests.releases import make_manifest
from tests.robot_agent.agent_process import make_table
from tests.robot_agent.drawn_robot import CAMERA, FOV_DEG
from tests.waiting import wait_until

LIMIT_MB = 150
ATTEMPTS = 12


def test_an_agent_without_a_simulator_stays_under_150_mb(tmp_path: Path):
    state = tmp_path / "robot" / "state"
    config = tmp_path / "robot" / "robot.toml"
    table = make_drawn_table(tmp_path)
    config.write_text(toml_text(table))
    state.mkdir()
    (state / "release").write_bytes(patch_release(tmp_path / "keys" / "release.secret"))

    def made_attempts() -> bool:
        try:
            return outbox_counts(state).written >= ATTEMPTS
        except ConfigurationError:  # not made yet
            return False

    command = [sys.executable, "-m", "robot_agent", "--config", str(config)]
    with subprocess.Popen(command, cwd=ROOT) as agent:
        try:
            wait_until(made_attempts, "attempts with the release")
            peak_mb = peak_resident_mb(agent.pid)
            loaded = Path(f"/proc/{agent.pid}/maps").read_text()
        finally:
            agent.kill()
    print(peak_mb)
    assert peak_mb < LIMIT_MB
    assert "onnxruntime" in loaded
    assert not any(library in loaded for library in ("libtorch", "_raylet", "libmujoco"))


def make_drawn_table(folder: Path) -> dict[str, object]:
    return make_table(folder) | {
        "max_attempts": 0,
        "robot": {"driver": "tests.robot_agent.drawn_robot:DrawnRobot"},
        "camera": {"driver": "tests.robot_agent.drawn_robot:DrawnCamera"},
        "camera_description": {**CAMERA, "vertical_fov_deg": FOV_DEG},
    }


def patch_release(signing_key: Path) -> bytes:
    """Return an untrained release of the default network that always decides."""
    network = build_network("patch", height_px=64, width_px=64)
    settings = CollectionSettings(random_fraction=0.0, explore_fraction=0.0, max_moves=4)
    manifest = make_manifest(size_px=64, network="patch", collection=settings)
    key = load_release_secret(signing_key)
    return ReleaseBuilder(network).build(network.state_dict(), manifest, key)


def peak_resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
