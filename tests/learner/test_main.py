"""The learner process on a real Ray: how it ends when it cannot go on, and how it resumes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import psutil
import pytest
import ray

from fleet.toml_text import toml_text
from learner.config import TrainingConfig
from learner.networks import build_network
from learner.training.checkpoint_folder import LocalFolder
from learner.training.checkpoints import Checkpoints
from learner.training.step import Training
from tests.delivery_site import ROOT
from tests.disks import small_disk
from tests.free_ports import free_port
from tests.learner.spot_task import SIDE_PX, STORE_BYTES, fill_store
from tests.learner_keys import create_learner_keys
from tests.waiting import wait_until

Table = dict[str, Any]


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """Start the Ray that the learners of these tests join, which is quicker than one for each."""
    context = ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100_000_000,
        _node_ip_address="127.0.0.1",
    )
    yield context.address_info["address"]
    ray.shutdown()


def make_table(folder: Path, address: str) -> Table:
    """Return a learner.toml that is right."""
    create_learner_keys(folder / "keys")
    (folder / "registry").mkdir()
    return {
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
        },
        "releases": {
            "bind": f"tcp://127.0.0.1:{free_port()}",
            "folder": "releases",
            "interval_s": 0.5,
        },
        "training": {
            "batch_size": 16,
            "first_after_attempts": 10,
            "max_visits": 1e9,
            "checkpoint_interval_s": 0.5,
        },
        "ray": {"address": address},
    }


def start(folder: Path, table: Table, *options: str) -> subprocess.Popen[str]:
    path = folder / "learner.toml"
    path.write_text(toml_text(table))
    return subprocess.Popen(
        [sys.executable, "-m", "learner", "--config", str(path), *options],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def has_reached(process: psutil.Process, name: str) -> bool:
    """Say whether a process has loaded a library of that name, or started such a program."""
    loaded = [file.path for file in process.memory_maps()]
    started = [word for child in process.children(recursive=True) for word in child.cmdline()[:1]]
    return any(name in one for one in loaded + started)


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the process to end by itself; return its status and what it said."""
    try:
        _, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, stderr


def misspelt(table: Table, folder: Path) -> None:
    table["training"]["bach_size"] = 3


def out_of_range(table: Table, folder: Path) -> None:
    table["training"]["held_out_fraction"] = 1.5


def of_unknown_network(table: Table, folder: Path) -> None:
    table["network"] = "transformer"


def without_key(table: Table, folder: Path) -> None:
    (folder / "keys" / "release.secret").unlink()


def open_to_others(table: Table, folder: Path) -> None:
    (folder / "keys" / "server.secret").chmod(0o644)


def in_a_file(table: Table, folder: Path) -> None:
    (folder / "run").write_text("not a folder")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (misspelt, ("unknown key 'training.bach_size'", "did you mean 'batch_size'?")),
        (out_of_range, ("learner.toml", "training.held_out_fraction")),
        (of_unknown_network, ("'transformer' (at network)", "choose 'patch' or 'levine2016'")),
        (without_key, ("keys/release.secret", "is missing")),
        (open_to_others, ("keys/server.secret", "mode 0644", "chmod 600")),
        (in_a_file, ("/run", "File exists")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_wrong_configuration_ends_with_status_2_and_one_line_that_names_it(
    tmp_path: Path,
    ray_address: str,
    spoil: Callable[[Table, Path], None],
    words: tuple[str, ...],
):
    table = make_table(tmp_path, ray_address)
    spoil(table, tmp_path)
    status, stderr = end_of(start(tmp_path, table))
    assert_one_clear_line(status, stderr, words)


def assert_one_clear_line(
    status: int, stderr: str, words: tuple[str, ...], *, wanted: int = 2
) -> None:
    assert status == wanted, stderr
    lines = [line for line in stderr.splitlines() if line.startswith("learner: ")]
    assert len(lines) == 1, stderr
    for word in words:
        assert word in lines[0]


def with_another_networks_checkpoint(table: Table, folder: Path) -> None:
    other = build_network("levine2016", height_px=SIDE_PX, width_px=SIDE_PX)
    checkpoints = folder / "run" / "checkpoints"
    Checkpoints(folder=LocalFolder(checkpoints), network="levine2016").save(
        Training(other, TrainingConfig(), seed=0), release_version=3
    )


def with_a_store_of_another_format(table: Table, folder: Path) -> None:
    fill_store(folder / "store", count=1)
    with lmdb.open(str(folder / "store"), max_dbs=16) as environment:
        meta = environment.open_db(b"meta")
        with environment.begin(db=meta, write=True) as transaction:
            transaction.put(b"format", b"99")


@pytest.mark.parametrize(
    ("spoil", "status", "words"),
    [
        (with_another_networks_checkpoint, 2, ("is of network 'levine2016'", "another run_folder")),
        (with_a_store_of_another_format, 1, ("format b'99'",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_another_version_left_behind_ends_the_learner_with_one_line_that_names_it(
    tmp_path: Path,
    ray_address: str,
    spoil: Callable[[Table, Path], None],
    status: int,
    words: tuple[str, ...],
):
    table = make_table(tmp_path, ray_address)
    spoil(table, tmp_path)
    found, stderr = end_of(start(tmp_path, table))
    assert_one_clear_line(found, stderr, words, wanted=status)
    assert not metrics(tmp_path)


def test_a_full_disk_ends_the_learner_with_one_line_that_names_it(tmp_path: Path, ray_address: str):
    table = make_table(tmp_path, ray_address)
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        table["gateway"]["store"] = str(disk / "store")
        status, stderr = end_of(start(tmp_path, table))
    assert_one_clear_line(status, stderr, (f"{disk}/store", "bytes free", "make room"), wanted=1)


@pytest.mark.parametrize("spoil", [without_key, open_to_others])
def test_a_key_that_is_wrong_is_said_before_ray_is_joined(
    tmp_path: Path, spoil: Callable[[Table, Path], None]
):
    table = make_table(tmp_path, f"127.0.0.1:{free_port()}")
    spoil(table, tmp_path)
    status, stderr = end_of(start(tmp_path, table))
    assert_one_clear_line(status, stderr, ("key", str(tmp_path)))
    assert stderr.count("\n") == 1


def test_options_of_offline_training_are_refused_where_a_fleet_is_served(tmp_path: Path):
    table = make_table(tmp_path, "127.0.0.1:1")
    for options in (["--visits", "3"], ["--out", str(tmp_path / "new")]):
        status, stderr = end_of(start(tmp_path, table, *options))
        assert_one_clear_line(status, stderr, ("--visits and --out belong to --offline",))


@pytest.mark.parametrize("reached", ["_raylet", "gcs_server"])
def test_ctrl_c_while_the_learner_starts_ends_it_without_a_traceback(tmp_path: Path, reached: str):
    table = make_table(tmp_path, "")
    learner = start(tmp_path, table)
    process = psutil.Process(learner.pid)
    wait_until(lambda: has_reached(process, reached), f"{reached} is there")
    learner.send_signal(signal.SIGINT)
    status, stderr = end_of(learner)
    assert status == 130, stderr
    assert stderr.endswith("\nlearner: interrupted\n")
    assert "Traceback" not in stderr


def test_the_learners_own_process_starts_ray_without_loading_what_its_actors_need():
    actors_need = {"cv2", "lmdb", "onnx", "torch"}
    look = f"import sys, learner.command_line; print(*{actors_need} & {{*sys.modules}})"
    command = [sys.executable, "-c", look]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("service", ["gateway", "releases"])
def test_a_port_in_use_is_named(tmp_path: Path, ray_address: str, service: str):
    table = make_table(tmp_path, ray_address)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        table[service]["bind"] = f"tcp://127.0.0.1:{port}"
        status, stderr = end_of(start(tmp_path, table))
    assert_one_clear_line(status, stderr, (f"tcp://127.0.0.1:{port}", "port is in use"))


def metrics(folder: Path) -> list[dict[str, Any]]:
    path = folder / "run" / "metrics.jsonl"
    if not path.is_file():
        return []
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def training_actor() -> int | None:
    """Return the process id of the trainer, None while there is none."""
    for process in psutil.Process().children(recursive=True):
        try:
            if "TrainingActor" in " ".join(process.cmdline()):
                return process.pid
        except psutil.NoSuchProcess:
            continue
    return None


def releases(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "releases").glob("release-*.gfrel"))


def test_a_killed_trainer_comes_back_from_its_checkpoint_and_numbers_releases_upwards(
    tmp_path: Path, ray_address: str
):
    fill_store(tmp_path / "store", count=30)
    learner = start(tmp_path, make_table(tmp_path, ray_address))
    try:
        checkpoints = tmp_path / "run" / "checkpoints"
        wait_until(
            lambda: (
                len(list(checkpoints.glob("*.safetensors"))) > 1 and len(releases(tmp_path)) > 1
            ),
            "two checkpoints and two releases",
            within_s=120,
        )
        killed = training_actor()
        assert killed is not None
        psutil.Process(killed).send_signal(signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(killed), "the trainer's end")
        lines, last = len(metrics(tmp_path)), releases(tmp_path)[-1]
        resumed_from = max(int(path.stem) for path in checkpoints.glob("*.safetensors"))

        wait_until(
            lambda: len(metrics(tmp_path)) > lines + 1 and releases(tmp_path)[-1] > last,
            "a release after the restart",
            within_s=120,
        )
        after = metrics(tmp_path)[lines:]
        assert training_actor() not in (None, killed)
        assert all(line["step"] >= resumed_from for line in after)
        numbers = [line["release_version"] for line in metrics(tmp_path)]
        assert numbers == sorted(numbers)
        learner.send_signal(signal.SIGTERM)
        status, stderr = end_of(learner)
        assert status == 0, stderr
    finally:
        learner.kill()
    newest = max(int(path.stem) for path in checkpoints.glob("*.safetensors"))
    assert newest >= metrics(tmp_path)[-1]["step"]


@pytest.mark.slow
def test_two_workers_train_live_and_stop_in_order(tmp_path: Path, ray_address: str):
    fill_store(tmp_path / "store", count=40)
    table = make_table(tmp_path, ray_address)
    table["training"]["workers"] = 2
    learner = start(tmp_path, table)
    try:
        wait_until(lambda: len(releases(tmp_path)) > 1, "two releases", within_s=240)
        learner.send_signal(signal.SIGTERM)
        status, stderr = end_of(learner)
        assert status == 0, stderr
    finally:
        learner.kill()
    checkpoints = (tmp_path / "run" / "checkpoints").glob("*.safetensors")
    assert max(int(path.stem) for path in checkpoints) >= metrics(tmp_path)[-1]["step"]
    assert metrics(tmp_path)[-1]["attempts"] == 40
