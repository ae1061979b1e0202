"""Training on recorded stores, as one would call it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from fleet.toml_text import toml_text
from learner.__main__ import main
from learner.config import LearnerConfig
from learner.offline import OfflineRun
from protocol.configuration import load_toml
from protocol.release import Release, unpack_release
from protocol.security import load_release_secret
from robot_agent.policy.q_function import QFunction
from tests.disks import small_disk
from tests.learner.spot_task import SIDE_PX, TRUE_MAP, fill_store
from tests.learner_keys import create_learner_keys


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return make_config(tmp_path)


def make_config(folder: Path) -> Path:
    create_learner_keys(folder / "keys")
    table = {
        "run_folder": "run",
        "network": "levine2016",
        "image_height_px": SIDE_PX,
        "image_width_px": SIDE_PX,
        "keys": {
            "server_secret": "keys/server.secret",
            "release_secret": "keys/release.secret",
            "registry": "registry",
        },
        "training": {"batch_size": 16, "held_out_fraction": 0.2},
    }
    path = folder / "learner.toml"
    path.write_text(toml_text(table))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a configuration, a store, and in "out" what was trained on it."""
    folder = tmp_path_factory.mktemp("trained")
    config = make_config(folder)
    fill_store(folder / "store", count=40)
    arguments = ("--config", str(config), "--offline", str(folder / "store"), "--visits", "2")
    with pytest.MonkeyPatch.context() as monkeypatch:
        call(monkeypatch, *arguments, "--out", str(folder / "out"))
    return folder


def release_of(folder: Path) -> Release:
    key = load_release_secret(folder / "keys" / "release.secret").public_key()
    return unpack_release((folder / "out" / "offline.gfrel").read_bytes(), key)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["learner", *arguments])
    main()


def test_a_recorded_store_becomes_a_release_that_a_robot_can_load(trained: Path):
    release = release_of(trained)
    assert release.manifest.network == "levine2016"
    assert release.manifest.metrics["attempts"] == 40
    assert release.manifest.metrics["visits"] >= 2
    QFunction(release, robot_id="robot-1", calibration=TRUE_MAP)
    assert list((trained / "out" / "checkpoints").glob("*.safetensors"))


def test_a_release_has_the_batch_statistics_of_its_own_weights_and_the_figures_that_go_with_them(
    trained: Path,
):
    release = release_of(trained)
    config = replace(load_toml(trained / "learner.toml", LearnerConfig), run_folder=trained / "out")
    resumed = OfflineRun(config, [trained / "store"], visits=2)
    layer = "network.trunk.1.running_mean"
    of_average = resumed.training.averaged.state_dict()[layer].numpy()
    of_trained = resumed.training.learned.state_dict()[layer].numpy()
    assert has_array(release.encode_graph, of_average)
    assert not has_array(release.encode_graph, of_trained)

    resumed.history.read_all()
    figures = resumed.training.snapshot().evaluate(resumed._replay.held_out).figures
    for name, value in figures.items():
        assert release.manifest.metrics[name] == pytest.approx(value, rel=1e-5)


def has_array(graph: bytes, values: np.ndarray) -> bool:
    """Return whether a graph holds an array of just these values."""
    tensors = onnx.load_from_string(graph).graph.initializer
    return any(np.array_equal(onnx.numpy_helper.to_array(tensor), values) for tensor in tensors)


def test_no_visits_give_a_release_of_an_untrained_network(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fill_store(tmp_path / "store", count=40)
    arguments = ("--config", str(config), "--offline", str(tmp_path / "store"), "--visits", "0")
    call(monkeypatch, *arguments, "--out", str(tmp_path / "out"))
    key = load_release_secret(tmp_path / "keys" / "release.secret").public_key()
    release = unpack_release((tmp_path / "out" / "offline.gfrel").read_bytes(), key)
    assert release.manifest.metrics["step"] == 0


def test_a_store_that_is_not_there_is_said_in_one_line(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    arguments = ("--config", str(config), "--offline", str(tmp_path / "no"), "--visits", "1")
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, *arguments, "--out", str(tmp_path / "out"))
    assert ended.value.code == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert "no" in said[-1]
    assert said[-1].startswith("learner:")


def test_a_disk_without_room_is_said_before_anything_is_trained(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    fill_store(tmp_path / "store", count=4)
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        arguments = ("--config", str(config), "--offline", str(tmp_path / "store"))
        with pytest.raises(SystemExit) as ended:
            call(monkeypatch, *arguments, "--out", str(disk / "out"))
        assert not (disk / "out" / "metrics.jsonl").exists()
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "a checkpoint takes" in said
    assert "make room" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--config TOML is needed, or --offline STORE"),
        (("--offline", "store"), "--offline needs --out DIR"),
        (("--offline", "store", "--out", "out", "--visits", "-1"), "--visits -1: from 0 to"),
    ],
)
def test_what_is_missing_on_the_command_line_is_said(
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, *arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
