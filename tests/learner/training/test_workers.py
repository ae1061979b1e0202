"""Several workers train one network: in lockstep, on their own parts, with one result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fleet.toml_text import toml_text
from learner.config import KeysConfig, LearnerConfig, TrainingConfig
from learner.training.live_team import LiveTeam
from protocol.errors import ConfigurationError, StoreError
from tests.benchmarks.bench_training import Nowhere
from tests.learner.spot_task import SIDE_PX, fill_store
from tests.learner_keys import create_learner_keys

ROOT = Path(__file__).resolve().parents[3]
TOLERANCE = 0.06
"""Nats of held-out loss by which the curves of one and two workers may differ. They are evaluated
on other attempts: the first of two workers has half of those that are held out."""


@pytest.mark.parametrize("network", ["patch", "levine2016"])
def test_workers_agree_on_weights_and_on_the_rows_of_robots_that_only_one_of_them_saw(
    tmp_path: Path, network: str
):
    command = [sys.executable, "-m", "tests.learner.training.one_of_two"]
    both = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path), network], cwd=ROOT, stderr=subprocess.PIPE
        )
        for rank in (0, 1)
    ]
    for process in both:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr.decode()[-2000:]
    first, second = (
        msgspec.json.decode((tmp_path / f"{rank}.json").read_bytes()) for rank in (0, 1)
    )
    assert first["weights"] == second["weights"]
    assert first["losses"] == second["losses"]
    assert first["seen"] == 3 * 32
    assert [robot for robot, _ in first["known"]] == ["arm-a", "arm-b", "arm-c"]
    assert first["known"] == second["known"]
    assert (first["rows"], second["rows"]) == ([0, 1], [2, 0])


def train(folder: Path, workers: int) -> list[dict[str, float]]:
    table = {
        "run_folder": "run",
        "image_height_px": SIDE_PX,
        "image_width_px": SIDE_PX,
        "keys": {"server_secret": "s", "release_secret": "r", "registry": "registry"},
        "training": {
            "batch_size": 64,
            "held_out_fraction": 0.2,
            "learning_rate": 4e-4,
            "workers": workers,
        },
    }
    path = folder / f"{workers}.toml"
    path.write_text(toml_text(table))
    arguments = ["--config", str(path), "--visits", "60", "--out", str(folder / str(workers))]
    done = subprocess.run(
        [sys.executable, "-m", "learner", *arguments, "--offline", str(folder / "store")],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = (folder / str(workers) / "metrics.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line) for line in lines]


@pytest.mark.slow
def test_two_workers_under_ray_train_learn_along_the_curve_of_one_at_the_same_batch(tmp_path: Path):
    fill_store(tmp_path / "store", count=400)
    one, two = train(tmp_path, 1), train(tmp_path, 2)
    assert one[-1]["step"] == pytest.approx(two[-1]["step"], rel=0.1)
    assert one[-1]["held_out_loss"] < 0.4 < 0.6 < one[0]["held_out_loss"]
    steps = [line["step"] for line in one]
    of_one = [line["held_out_loss"] for line in one]
    of_two = [line["held_out_loss"] for line in two]
    at_the_same_steps = np.interp(steps, [line["step"] for line in two], of_two)
    np.testing.assert_allclose(of_one, at_the_same_steps, atol=TOLERANCE)
    assert min(one[-1]["held_out_auc"], two[-1]["held_out_auc"]) > 0.95


def config_of(folder: Path, **training: Any) -> LearnerConfig:
    create_learner_keys(folder)
    return LearnerConfig(
        run_folder=folder / "run",
        keys=KeysConfig(
            server_secret=folder / "server.secret",
            release_secret=folder / "release.secret",
            registry=folder,
        ),
        training=TrainingConfig(**({"workers": 2} | training)),
    )


@pytest.mark.parametrize(
    ("training", "error", "words"),
    [
        ({"history": (Path("no/such/store"),)}, StoreError, "no/such/store"),
        ({"replay_bytes": 1_000_000}, ConfigurationError, "replay_bytes 1000000"),
        ({"checkpoints": "server.secret"}, ConfigurationError, "cannot be read"),
    ],
)
def test_what_every_worker_would_stumble_over_is_said_before_one_starts(
    tmp_path: Path, training: dict[str, Any], error: type[Exception], words: str
):
    if "checkpoints" in training:
        training = training | {"checkpoints": str(tmp_path / "server.secret")}
    config = config_of(tmp_path, **training)
    with pytest.raises(error, match=words):
        LiveTeam(config, Nowhere())


def test_more_workers_than_cores_are_refused_before_anything_starts(tmp_path: Path):
    create_learner_keys(tmp_path)
    table = {
        "run_folder": "run",
        "keys": {
            "server_secret": "server.secret",
            "release_secret": "release.secret",
            "registry": "registry",
        },
        "training": {"batch_size": 65536, "workers": 1024},
    }
    path = tmp_path / "learner.toml"
    path.write_text(toml_text(table))
    done = subprocess.run(
        [sys.executable, "-m", "learner", "--config", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert "training.workers 1024" in done.stderr.splitlines()[-1]


def test_more_workers_than_the_batch_can_be_split_among_are_a_wrong_configuration():
    with pytest.raises(ValueError, match="batch_size 10 cannot be split among 3 workers"):
        TrainingConfig(batch_size=10, workers=3)
