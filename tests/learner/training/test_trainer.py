"""The trainer, without Ray: from a store of attempts to releases that a robot can load."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from learner.config import (
    CollectionConfig,
    GatewayConfig,
    KeysConfig,
    LearnerConfig,
    ReleasesConfig,
    TrainingConfig,
)
from learner.monitoring.training_report import TrainingReport
from learner.store.episode_store import EpisodeStore
from learner.training.batch_statistics import measure_statistics
from learner.training.trainer import Trainer
from protocol.errors import ConfigurationError, TransientError
from protocol.release import unpack_release
from protocol.security import load_release_secret
from robot_agent.policy.q_function import QFunction
from tests.disks import small_disk
from tests.learner.spot_task import SIDE_PX, STORE_BYTES, TRUE_MAP, fill_store
from tests.learner_keys import create_learner_keys
from tests.waiting import wait_until


def make_config(folder: Path, *, run_folder: Path | None = None, **training: Any) -> LearnerConfig:
    settings = {
        "batch_size": 16,
        "first_after_attempts": 20,
        "max_visits": 1e9,
        "checkpoint_interval_s": 0.2,
        "held_out_fraction": 0.2,
    }
    return LearnerConfig(
        run_folder=run_folder or folder / "run",
        image_height_px=SIDE_PX,
        image_width_px=SIDE_PX,
        keys=KeysConfig(
            server_secret=folder / "server.secret",
            release_secret=folder / "release.secret",
            registry=folder / "registry",
        ),
        gateway=GatewayConfig(store=folder / "store", max_store_bytes=STORE_BYTES),
        releases=ReleasesConfig(interval_s=0.2),
        training=TrainingConfig(**(settings | training)),
        collection=CollectionConfig(random_attempts=10),
    )


class Fleet:
    """Takes what is released, in place of a release server."""

    def __init__(self, *, highest_version: int = 0) -> None:
        self.released: list[tuple[int, bytes]] = []
        self.withheld: list[str] = []
        self.reports: list[TrainingReport] = []
        self._highest_version = highest_version

    def newest(self) -> bytes | None:
        return self.released[-1][1] if self.released else None

    def highest_version(self) -> int:
        return self._highest_version

    def withhold(self, reason: str) -> None:
        self.withheld.append(reason)

    def report(self, report: TrainingReport) -> None:
        self.reports.append(report)

    def publish(self, version: int, data: bytes) -> None:
        self.released.append((version, data))


@contextmanager
def training(
    config: LearnerConfig, fleet: Fleet, prepare: Callable[[Trainer], None] = lambda _: None
) -> Iterator[Trainer]:
    """Train on a thread until the block ends."""
    config.run_folder.mkdir(exist_ok=True)
    trainer = Trainer(config, fleet)
    prepare(trainer)
    stopping, failures = threading.Event(), []

    def run() -> None:
        try:
            trainer.run(stopping)
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield trainer
    finally:
        stopping.set()
        thread.join()
    assert not failures


def lines(config: LearnerConfig) -> list[dict[str, Any]]:
    path = config.run_folder / "metrics.jsonl"
    content = path.read_bytes() if path.is_file() else b""
    return [msgspec.json.decode(line) for line in content.splitlines()]


def newest_checkpoint(config: LearnerConfig) -> int:
    names = (config.run_folder / "checkpoints").glob("*.safetensors")
    return max((int(path.stem) for path in names), default=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with keys and a store of forty attempts."""
    create_learner_keys(tmp_path)
    fill_store(tmp_path / "store", count=40)
    return tmp_path


def until(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, what, within_s=90)


def test_it_releases_what_a_robot_can_load_and_goes_on_after_a_restart(folder: Path):
    config, fleet = make_config(folder), Fleet()
    with training(config, fleet):
        until(lambda: len(fleet.released) >= 2 and len(lines(config)) >= 1, "two releases")
    step = newest_checkpoint(config)
    assert step > 0
    report = fleet.reports[-1]
    assert report.timed_steps == report.steps > 0
    assert report.replay_attempts == 40
    assert 0 < report.replay_bytes <= report.replay_limit_bytes

    version, data = fleet.released[-1]
    release = unpack_release(data, load_release_secret(config.keys.release_secret).public_key())
    q_function = QFunction(release, robot_id="robot-01", calibration=TRUE_MAP)
    assert q_function.refined is not None
    picture = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    assert q_function.encode(picture, picture).size
    manifest = release.manifest
    assert (manifest.version, manifest.parent, manifest.network) == (version, version - 1, "patch")
    assert manifest.metrics["attempts"] == 40
    assert manifest.collection.random_fraction < 1.0
    assert [number for number, _ in fleet.released] == list(range(1, version + 1))

    with training(config, fleet):
        until(lambda: len(fleet.released) > version, "a release after the restart")
    assert fleet.released[version][0] == version + 1
    again = unpack_release(
        fleet.released[version][1], load_release_secret(config.keys.release_secret).public_key()
    )
    assert again.manifest.metrics["step"] > step


def test_releases_are_numbered_above_what_the_robots_have(folder: Path):
    fleet = Fleet(highest_version=41)
    with training(make_config(folder), fleet):
        until(lambda: bool(fleet.released), "a release")
    assert fleet.released[0][0] == 42


def test_a_trainer_whose_export_was_killed_begins_another_and_says_so(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    fleet = Fleet()
    with training(make_config(folder), fleet) as trainer:
        until(lambda: trainer._releases._export is not None, "the export begins")
        trainer._releases._export._process.kill()
        until(lambda: bool(fleet.released), "a release")
    assert "ended with status -9: it said nothing; exporting once more" in caplog.text


def withheld_steps(config: LearnerConfig) -> list[int]:
    """Return the steps at which the log counts weights that were held back."""
    return [line["step"] for line in lines(config) if line["releases_withheld"]]


def damage(trainer: Trainer) -> None:
    """Do to the weights what a bad bit of memory would."""
    for module in (trainer._training.learned, trainer._training.averaged):
        noise = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in module.network.parameters():
                weight.add_(torch.randn(weight.shape, generator=noise))


def steps_of_newest_release(config: LearnerConfig, fleet: Fleet) -> float:
    data = fleet.newest()
    if data is None:
        return 0.0
    key = load_release_secret(config.keys.release_secret).public_key()
    return unpack_release(data, key).manifest.metrics["step"]


def test_weights_that_got_worse_than_the_release_in_use_are_held_back_also_after_a_restart(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    shutil.rmtree(folder / "store")
    fill_store(folder / "store", count=120)
    config, fleet = make_config(folder, held_out_fraction=0.4), Fleet()
    with training(config, fleet):
        until(lambda: steps_of_newest_release(config, fleet) >= 30, "a release that has learned")
    released = len(fleet.released)

    # A rate this small: the weights must not recover before they are judged.
    config = make_config(folder, held_out_fraction=0.4, learning_rate=1e-9)
    with training(config, fleet, prepare=damage):
        until(lambda: withheld_steps(config) != [], "weights are held back, and the log says so")
        first = withheld_steps(config)[0]
        until(lambda: withheld_steps(config)[-1] > first, "training goes on")

    assert f"worse than that of release {released} by" in fleet.withheld[0]
    assert fleet.withheld[0] in caplog.text


@pytest.mark.slow
def test_a_release_made_while_training_goes_on_has_the_batch_statistics_of_its_own_weights(
    folder: Path,
):
    config, fleet = replace(make_config(folder), network="levine2016"), Fleet()
    with training(config, fleet) as trainer:
        until(lambda: bool(fleet.released), "a release")
    key = load_release_secret(config.keys.release_secret).public_key()
    release = unpack_release(fleet.released[0][1], key)
    released = trainer._releases._builder.weights_of(release)

    measured, step = trainer._training.averaged.copied(), int(release.manifest.metrics["step"])
    weights = {name: value for name, value in released.items() if "running" not in name}
    measured.network.load_state_dict(weights, strict=False)
    measure_statistics(measured, partial(trainer._mixture.draw_aside, step))
    own = measured.network.state_dict()
    statistics = released.keys() - weights.keys()
    assert len(statistics) == 2 * 16
    for name in statistics:
        torch.testing.assert_close(released[name], own[name], rtol=0.05, atol=0.02)


@pytest.mark.parametrize(("network", "at_once"), [("patch", True), ("levine2016", False)])
def test_weights_with_batch_normalisation_wait_for_what_they_are_measured_on(
    folder: Path, network: str, *, at_once: bool
):
    trainer = Trainer(replace(make_config(folder), network=network), Fleet())
    assert trainer._may_judge == at_once
    trainer._feed.start()
    try:
        until(trainer._feed.opened.is_set, "the replay is filled")
        assert trainer._may_judge
    finally:
        trainer._feed.close()


@pytest.mark.parametrize("limit", [{"first_after_attempts": 41}, {"max_visits": 1.0}])
def test_it_waits_for_experience_rather_than_wear_out_what_it_has(
    folder: Path, limit: dict[str, float]
):
    config, fleet = make_config(folder, **limit), Fleet()
    with training(config, fleet):
        until(lambda: len(lines(config)) >= 2, "two lines of metrics")
    last = lines(config)[-1]
    assert last["attempts"] == 40
    assert last["visits"] <= 1.0 + 16 / last["examples"]
    assert (last["step"] == 0) == ("first_after_attempts" in limit)


def test_a_full_disk_costs_checkpoints_and_metrics_but_not_the_training(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.ERROR)
    with small_disk(folder / "disk", megabytes=2) as disk:
        config, fleet = make_config(folder, run_folder=disk / "run"), Fleet()
        fill_up(disk)
        with training(config, fleet):
            until(lambda: "checkpoint not written" in caplog.text, "the error in the log")
            before = len(fleet.released)
            until(lambda: len(fleet.released) > before + 1, "releases beside the full disk")
            assert newest_checkpoint(config) == 0
            assert not list((config.run_folder / "checkpoints").iterdir())
            make_room(disk)
            until(lambda: len(lines(config)) > 0, "metrics once there is room")
        assert f"{disk}/run" in caplog.text
        assert "No space left on device" in caplog.text
        assert all("step" in line for line in lines(config))


def fill_up(disk: Path) -> None:
    """Write until nothing goes in any more."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def make_room(disk: Path) -> None:
    (disk / "filler").unlink()
    (disk / "ballast").unlink()


def test_a_resumed_training_with_a_worn_out_history_waits_for_its_first_robot(folder: Path):
    (folder / "store").rename(folder / "old")
    EpisodeStore(folder / "store", STORE_BYTES).close()
    config = make_config(folder, history=(folder / "old",), max_visits=2.0)
    with training(config, Fleet()):
        until(lambda: newest_checkpoint(config) > 0, "the history is used")
        until(lambda: has_waited(config), "the history is worn out")
    step = newest_checkpoint(config)
    with training(config, Fleet()) as resumed:
        written = len(lines(config))
        until(lambda: len(lines(config)) >= written + 2, "metrics while it waits")
        assert resumed._training.step_count == step


def has_waited(config: LearnerConfig) -> bool:
    """Return whether two lines of metrics in a row are of the same step, after the first."""
    steps = [line["step"] for line in lines(config)]
    return len(steps) >= 2 and steps[-1] == steps[-2] > 0


def test_what_fails_beside_the_steps_in_the_end_costs_no_checkpoint(folder: Path):
    config = make_config(folder)
    config.run_folder.mkdir()
    trainer = Trainer(config, Fleet())
    trainer._training.step_count = 5

    def fail() -> None:
        raise OSError("the release server is gone")

    trainer._judging.begin(fail)
    with pytest.raises(OSError, match="the release server is gone"):
        trainer._save_last()
    assert newest_checkpoint(config) == 5


class SilentFleet(Fleet):
    """Does not take a release in time, and does not answer at all to the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.offered: list[int] = []
        self.is_back = threading.Event()

    def publish(self, version: int, data: bytes) -> None:
        self.offered.append(version)
        if len(self.offered) == 1:
            raise TransientError("the release server does not answer within 60 s")
        self.is_back.wait()


def test_an_outlet_that_never_answers_stops_neither_checkpoints_nor_reports_nor_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("learner.training.trainer._PATIENCE_S", 0.1)
    config, fleet = make_config(folder), SilentFleet()
    with training(config, fleet) as trainer:
        until(lambda: len(fleet.offered) == 2, "newer weights are handed out")
        step, reports, written = newest_checkpoint(config), len(fleet.reports), len(lines(config))
        until(lambda: newest_checkpoint(config) > step, "a checkpoint")
        until(lambda: len(fleet.reports) > reports, "a report")
        until(lambda: len(lines(config)) > written, "a line of metrics")
    assert fleet.offered == [1, 1]
    assert fleet.reports[-1].releases_unpublished == 1
    assert "not released: the release server does not answer within 60 s; training" in caplog.text
    assert newest_checkpoint(config) == trainer._training.step_count
    assert "a candidate that is being judged or handed out is given up" in caplog.text
    fleet.is_back.set()


def test_a_missing_signing_key_is_named(folder: Path):
    (folder / "release.secret").unlink()
    with pytest.raises(ConfigurationError, match=r"release\.secret is missing"):
        Trainer(make_config(folder), Fleet())
