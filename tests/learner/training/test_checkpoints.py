"""Checkpoints: what was written is what goes on, or else the one before it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fsspec.implementations.local import LocalFileSystem
from safetensors.torch import save

from learner.config import TrainingConfig
from learner.networks import build_network
from learner.training.checkpoint_folder import LocalFolder, RemoteFolder, checkpoint_folder
from learner.training.checkpoints import Checkpoints, Resumed, _packed, _unpacked
from learner.training.example_set import ExampleSet
from learner.training.replay_feed import Counted
from learner.training.step import Training
from learner.training.team import Team
from protocol.errors import ConfigurationError
from tests.disks import small_disk
from tests.learner.spot_task import SIDE_PX, TRUE_MAP, spot_episode, spot_examples, step_on


def make_training(name: str = "patch", *, side_px: int = SIDE_PX, seed: int = 0) -> Training:
    torch.manual_seed(seed)
    network = build_network(name, height_px=side_px, width_px=side_px)
    return Training(network, TrainingConfig(batch_size=16), seed=seed)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(folder=LocalFolder(tmp_path / "checkpoints"), network="patch")


def trained(steps: int = 3) -> tuple[Training, ExampleSet]:
    training = make_training()
    examples = spot_examples(20, training.learned.refiner)
    for _ in range(steps):
        step_on(training, examples)
    return training, examples


def test_training_goes_on_to_the_bit_as_if_it_had_not_been_interrupted(checkpoints: Checkpoints):
    training, examples = trained()
    checkpoints.save(training, release_version=4)
    expected = [step_on(training, examples) for _ in range(3)]
    figures = training.snapshot().evaluate(examples).figures

    resumed = make_training(seed=99)
    assert checkpoints.restore_newest(resumed).release_version == 4
    assert (resumed.step_count, resumed.examples_seen) == (3, 48)

    assert [step_on(resumed, examples) for _ in range(3)] == expected
    assert resumed.snapshot().evaluate(examples).figures == figures


def test_robots_keep_their_maps(checkpoints: Checkpoints):
    training, _ = trained()
    with torch.no_grad():
        training.averaged.refiner.correction_R24[0, 0, 3] = 0.4
    checkpoints.save(training, release_version=1)
    resumed = make_training(seed=99)
    checkpoints.restore_newest(resumed)
    assert resumed.averaged.refiner.refined_maps({}) == training.averaged.refiner.refined_maps({})
    again = spot_episode(np.random.default_rng(0), success=True, robot_id="robot-0")
    refiner = resumed.learned.refiner
    keys = torch.tensor([refiner.key_of(again)])
    assert refiner.rows_of(keys).tolist() == [0]
    another = spot_episode(np.random.default_rng(0), success=True, robot_id="robot-9")
    resumed.averaged.refiner.key_of(another)
    assert refiner.give_rows(Team()) == [1]
    assert another.calibration.tolist() == TRUE_MAP.matrix.tolist()


def test_nothing_to_restore_changes_nothing(checkpoints: Checkpoints):
    training = make_training()
    assert checkpoints.restore_newest(training) == Resumed()
    assert training.step_count == 0


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_checkpoints_are_kept_as_configured(checkpoints: Checkpoints, keep: int):
    checkpoints = replace(checkpoints, keep=keep)
    training, examples = trained(steps=1)
    for version in range(4):
        step_on(training, examples)
        checkpoints.save(training, release_version=version)
    names = sorted(checkpoints.folder.names())
    assert names == [f"{step:09d}.safetensors" for step in range(6 - keep, 6)]


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda content, kept=kept: content[:kept] for kept in (0, 5, 3000, -1)] + [flip_a_bit],
    ids=["empty", "5 bytes", "3000 bytes", "a byte short", "a bit flipped"],
)
def test_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before(
    checkpoints: Checkpoints, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
):
    training, examples = trained()
    checkpoints.save(training, release_version=1)
    step_on(training, examples)
    newest = checkpoints.save(training, release_version=2)
    folder = checkpoints.folder
    folder.write(newest, damage(folder.read(newest)))

    resumed = make_training(seed=99)

    assert checkpoints.restore_newest(resumed).release_version == 1
    assert resumed.step_count == 3
    assert f"{newest} is damaged" in caplog.text


@pytest.mark.parametrize("keep", [1, 3])
def test_damaged_checkpoints_are_set_aside_and_never_outlive_a_good_one(
    checkpoints: Checkpoints, keep: int
):
    checkpoints = replace(checkpoints, keep=keep)
    training = make_training()
    damaged = []
    for training.step_count in (9000, 9100, 9200):
        damaged.append(checkpoints.save(training, release_version=1))
    damaged = damaged[-keep:]
    for name in damaged:
        checkpoints.folder.write(name, b"x" * 100)

    resumed = make_training()
    assert checkpoints.restore_newest(resumed) == Resumed()
    resumed.step_count = 100
    saved = checkpoints.save(resumed, release_version=1)

    assert sorted(checkpoints.folder.names()) == [saved, *(f"{name}.damaged" for name in damaged)]


def test_the_checkpoint_just_written_stays_whatever_the_others_are_called(
    checkpoints: Checkpoints,
):
    checkpoints = replace(checkpoints, keep=2)
    for number in (7000, 8000, 9000):
        checkpoints.folder.write(f"{number:09d}.safetensors", b"of another run")
    saved = checkpoints.save(make_training(), release_version=1)
    assert sorted(checkpoints.folder.names()) == [saved, "000009000.safetensors"]


def test_a_checkpoint_that_cannot_be_read_now_is_not_taken_for_a_damaged_one(
    checkpoints: Checkpoints,
):
    checkpoints.save(make_training(), release_version=1)
    (Path(str(checkpoints.folder)) / "000000007.safetensors").mkdir()
    with pytest.raises(
        ConfigurationError, match=r"000000007\.safetensors cannot be read now: Is a"
    ):
        checkpoints.restore_newest(make_training())


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path):
    (tmp_path / "checkpoints").write_bytes(b"a file in its place")
    checkpoints = Checkpoints(folder=LocalFolder(tmp_path / "checkpoints"), network="patch")
    with pytest.raises(ConfigurationError, match=r"cannot be read: .*Not a directory"):
        checkpoints.restore_newest(make_training())


class Moody(LocalFileSystem):
    """A store whose package has errors of its own."""

    def pipe_file(self, path: str, value: bytes, **options: object) -> None:
        raise RuntimeError("token expired")

    cat_file = ls = rm_file = pipe_file


def test_what_a_store_raises_of_its_own_is_an_os_error_with_words(tmp_path: Path):
    folder = RemoteFolder("moody://a", Moody(), str(tmp_path))
    for act in (lambda: folder.write("a", b"1"), lambda: folder.read("a"), folder.names):
        with pytest.raises(OSError) as raised:
            act()
        assert raised.value.strerror


def test_a_file_that_was_never_finished_is_not_looked_at(checkpoints: Checkpoints):
    training, _ = trained()
    checkpoints.save(training, release_version=1)
    checkpoints.folder.write("000000099.safetensors.partial", b"half a check")
    assert checkpoints.restore_newest(make_training()).release_version == 1


def test_what_a_killed_learner_left_half_written_goes_with_the_next_checkpoint(tmp_path: Path):
    names = ["000000007.safetensors.partial", "a model.safetensors.partial", "0.partial"]
    left, *others = [tmp_path / name for name in names]
    for path in (left, *others):
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    young = tmp_path / "000000008.safetensors.partial"
    young.write_bytes(b"half")
    LocalFolder(tmp_path).write("000000009.safetensors", b"whole")
    assert not left.exists()
    assert young.exists(), "another process may be writing it"
    assert all(path.exists() for path in others)


def test_the_disk_knows_of_a_new_checkpoint_before_an_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names_at_sync: list[list[str]] = []
    sync = os.fsync

    def noting(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == tmp_path.stat().st_ino:
            names_at_sync.append([path.name for path in tmp_path.iterdir()])
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    LocalFolder(tmp_path).write("000000009.safetensors", b"whole")
    assert names_at_sync == [["000000009.safetensors"]]


def test_what_is_not_only_of_weights_is_restored_too(checkpoints: Checkpoints):
    training, _ = trained()
    counted = Counted(through={"ab": 70}, examples=300, history_drawn=20)
    checkpoints.save(training, release_version=5, counted=counted)
    found = checkpoints.restore_newest(make_training())
    assert found == Resumed(release_version=5, counted=counted)


@pytest.mark.parametrize("scheme", ["local", "file"])
def test_checkpoints_may_be_kept_wherever_fsspec_reaches(tmp_path: Path, scheme: str):
    folder = checkpoint_folder(f"{scheme}://{tmp_path}/far/away", tmp_path)
    checkpoints = Checkpoints(folder=folder, network="patch", keep=1)
    assert checkpoints.restore_newest(make_training()) == Resumed()
    training, examples = trained()
    checkpoints.save(training, release_version=1)
    expected = step_on(training, examples)
    training.step_count -= 1  # as if it had not been taken
    resumed = make_training(seed=99)
    assert checkpoints.restore_newest(resumed).release_version == 1
    assert step_on(resumed, examples) == expected


@pytest.mark.parametrize(
    "where",
    [
        "s3://bucket/run",
        "nosuch://bucket/run",
        "memory://a",
        "https://example.invalid/x",
        "zip://x",
        "zip://x::local:///y",
        "local:///proc/no/such/folder",
    ],
)
def test_a_place_that_cannot_be_reached_is_a_wrong_configuration(tmp_path: Path, where: str):
    with pytest.raises(ConfigurationError, match=f"training.checkpoints {where}: "):
        checkpoint_folder(where, tmp_path)


def test_a_disk_without_room_for_a_checkpoint_is_said_before_anything_starts(tmp_path: Path):
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        checkpoints = Checkpoints(folder=LocalFolder(disk / "run" / "c"), network="patch")
        training, _ = trained()
        lack = checkpoints.lack_of_room(training)
        assert lack.startswith(str(disk))
        assert "are free" in lack


def test_a_checkpoint_of_an_older_format_is_said_to_be_one(checkpoints: Checkpoints):
    tensors = {"learned.weight": torch.zeros(2)}
    old = save(tensors, metadata={"progress": '{"network":"patch","step_count":3}'})
    checkpoints.folder.write("000000003.safetensors", old)
    with pytest.raises(ConfigurationError, match="of format 1, but this learner reads 2"):
        checkpoints.restore_newest(make_training())


@pytest.mark.parametrize(
    ("other", "side_px", "words"),
    [("levine2016", SIDE_PX, "network 'patch'.*'levine2016'"), ("patch", 48, "32x32 px.*48x48")],
)
def test_a_checkpoint_of_another_network_is_a_wrong_configuration(
    checkpoints: Checkpoints, other: str, side_px: int, words: str
):
    training, _ = trained()
    checkpoints.save(training, release_version=1)
    mine = Checkpoints(folder=checkpoints.folder, network=other)
    with pytest.raises(ConfigurationError, match=words):
        mine.restore_newest(make_training(other, side_px=side_px))


def test_a_checkpoint_of_another_version_of_the_network_is_a_wrong_configuration(
    checkpoints: Checkpoints,
):
    training, _ = trained()
    name = checkpoints.save(training, release_version=1)
    progress, tensors = _unpacked(checkpoints.folder.read(name), name)
    del tensors["learned.network.head.out.bias"]
    checkpoints.folder.write(name, _packed(tensors, progress))
    with pytest.raises(ConfigurationError, match=r"does not fit network 'patch'.*head\.out\.bias"):
        checkpoints.restore_newest(make_training())
