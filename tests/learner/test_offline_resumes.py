"""Training on recorded stores is the same to the bit, whatever interrupts it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL, SIGTERM
from threading import Event

import msgspec
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from fleet.toml_text import toml_text
from learner.config import LearnerConfig
from learner.offline import OfflineRun
from protocol.configuration import load_toml
from tests.learner.spot_task import SIDE_PX, fill_store
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
VISITS = 60


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a folder with two stores, and a configuration without a key to sign with."""
    fill_store(tmp_path / "first", count=40)
    fill_store(tmp_path / "second", count=25, seed=1, robot_id="robot-2")
    key = {"server_secret": "s", "release_secret": "r", "registry": "registry"}
    table = {
        "run_folder": "run",
        "image_height_px": SIDE_PX,
        "image_width_px": SIDE_PX,
        "keys": key,
        "training": {"batch_size": 16, "held_out_fraction": 0.2, "checkpoint_interval_s": 0.05},
    }
    (tmp_path / "learner.toml").write_text(toml_text(table))
    return tmp_path


def weights_of(site: Path, out: str) -> dict[str, torch.Tensor]:
    """Train for a while in this process; return the moving average's weights."""
    config = replace(load_toml(site / "learner.toml", LearnerConfig), run_folder=site / out)
    config.run_folder.mkdir()
    run = OfflineRun(config, [site / "first", site / "second"], visits=8)
    run.run(Event())
    return run.training.averaged.state_dict()


def test_two_runs_with_one_seed_give_the_same_weights_to_the_bit(site: Path):
    first = weights_of(site, "first-run")
    torch.rand(3)  # whatever else draws random numbers meanwhile
    again = weights_of(site, "second-run")
    assert all(torch.equal(first[name], again[name]) for name in first)
    trained = first["network.head.out.bias"]
    assert float(trained) != 0.0


def train(site: Path, out: Path) -> subprocess.Popen[bytes]:
    stores = [str(site / "first"), str(site / "second")]
    arguments = ["--config", str(site / "learner.toml"), "--visits", str(VISITS), "--out", str(out)]
    command = [sys.executable, "-m", "learner", *arguments, "--offline", *stores]
    return subprocess.Popen(command, cwd=ROOT, stderr=(site / "log").open("ab"))


def finish(process: subprocess.Popen[bytes], site: Path) -> None:
    assert process.wait(timeout=200) == 0, (site / "log").read_text()[-2000:]


def newest(out: Path) -> Path | None:
    return max((out / "checkpoints").glob("*.safetensors"), default=None)


def step_of(out: Path) -> int:
    found = newest(out)
    return int(found.stem) if found else 0


def content(checkpoint: Path) -> tuple[dict[str, str], bytes]:
    """Return the metadata, and the tensors as they lie in the file with their names."""
    with safe_open(checkpoint, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    return metadata, save(tensors)


@pytest.mark.slow
def test_a_run_killed_at_three_random_points_ends_with_the_weights_of_one_left_alone(site: Path):
    alone, killed = site / "alone", site / "killed"
    undisturbed = train(site, alone)
    targets = sorted(np.random.default_rng().integers(1, 120, 4))
    for target, blow in zip(targets, (SIGKILL, SIGTERM, SIGKILL, SIGKILL), strict=True):
        process = train(site, killed)
        try:
            wait_until(lambda least=int(target): step_of(killed) >= least, "a checkpoint", 200)
            process.send_signal(blow)
            assert process.wait(60) == (-SIGKILL if blow is SIGKILL else 0)
        finally:
            process.kill()
    finish(train(site, killed), site)
    finish(undisturbed, site)

    assert step_of(killed) == step_of(alone) > 120
    # All that a checkpoint holds, bit for bit: weights, optimiser, moving average, maps. The files
    # themselves may differ, for the library writes its metadata in any order.
    assert content(newest(killed)) == content(newest(alone))
    lines = [msgspec.json.decode(line) for line in (killed / "metrics.jsonl").open("rb")]
    assert lines[-1]["attempts"] == 65
    assert list((killed / "tensorboard").glob("events.*"))
    record = msgspec.json.decode((killed / "run.json").read_bytes())
    assert record["config"]["seed"] == 0
    assert record["software"]["torch"]
