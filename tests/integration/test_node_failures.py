"""A cluster of several Ray nodes: what it lacks is said, and whatever node goes comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import ray
from ray.cluster_utils import Cluster

from fleet.enrolment import ensure_learner_keys
from fleet.operator import operator_connection
from fleet.run_folder import RunFolder
from fleet.status import StatusClient
from fleet.toml_text import laid_over, toml_text
from learner.cluster import ray_of
from learner.config import LearnerConfig
from learner.training.team import Team
from learner.training.workers import run_team
from protocol.configuration import load_toml
from protocol.errors import GraspFleetError
from protocol.registry import Registry
from tests.delivery_site import ROOT
from tests.free_ports import free_port
from tests.learner.spot_task import SIDE_PX, STORE_BYTES, fill_store
from tests.waiting import wait_until

Table = dict[str, Any]
_RAY_MEMORY = {"object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that is in no place. Its folder is its own: other tests must not find this Ray."""
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("RAY_TMPDIR", folder)
        head = {"num_cpus": 1, "include_dashboard": False, **_RAY_MEMORY}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        cluster.shutdown()


class Lab:
    """A learner's folder, and the learner as a process that joins the cluster."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = RunFolder(root=folder)
        self._address = address
        ensure_learner_keys(folder / "keys", Registry(folder / "registry"))

    def start(self, changes: Table | None = None) -> subprocess.Popen[str]:
        self.config(changes or {})
        log = (self.folder.root / "log").open("w")
        command = [sys.executable, "-m", "learner", "--config", str(self.folder.learner_config)]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, text=True)

    def config(self, changes: Table) -> LearnerConfig:
        """Write the learner's configuration with these changes, and read it."""
        self.folder.learner_config.write_text(toml_text(laid_over(self._table(), changes)))
        return load_toml(self.folder.learner_config, LearnerConfig)

    def complaint(self, changes: Table, *, status: int = 2) -> str:
        """Start a learner that cannot run; return the one line that it ends with."""
        learner = self.start(changes)
        try:
            assert learner.wait(60) == status, self.log
        finally:
            learner.kill()
        (line,) = (line for line in self.log.splitlines() if line.startswith("learner: "))
        assert not self.metrics
        return line

    @property
    def log(self) -> str:
        return (self.folder.root / "log").read_text()

    @property
    def metrics(self) -> list[Table]:
        path = self.folder.learner / "metrics.jsonl"
        if not path.is_file():
            return []
        return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]

    @property
    def checkpointed_step(self) -> int:
        """The newest checkpoint's step; -1 while there is none."""
        files = (self.folder.learner / "checkpoints").glob("*.safetensors")
        return max((int(path.stem) for path in files), default=-1)

    def answers(self) -> bool:
        try:
            with StatusClient(*operator_connection(self.folder)) as client:
                return client.fetch(2.0).episodes_stored > 0
        except GraspFleetError:
            return False

    def _table(self) -> Table:
        return {
            "run_folder": "learner",
            "image_height_px": SIDE_PX,
            "image_width_px": SIDE_PX,
            "keys": {
                "server_secret": "keys/server.secret",
                "release_secret": "keys/release.secret",
                "registry": "registry",
            },
            "gateway": {
                "place": "ingestion",
                "bind": f"tcp://127.0.0.1:{free_port()}",
                "store": "store",
                "max_store_bytes": STORE_BYTES,
            },
            "releases": {
                "place": "ingestion",
                "bind": f"tcp://127.0.0.1:{free_port()}",
                "folder": "releases",
                "interval_s": 0.5,
            },
            "training": {
                "place": "training",
                "batch_size": 16,
                "first_after_attempts": 10,
                "max_visits": 1e9,
                "checkpoint_interval_s": 0.5,
            },
            "ray": {"address": self._address, "nodes_within_s": 30.0},
        }


@pytest.fixture
def lab(cluster: Cluster, tmp_path: Path) -> Lab:
    return Lab(tmp_path, cluster.address)


def add_node(cluster: Cluster, place: str, **options: Any) -> Any:  # Ray's description of it
    return cluster.add_node(num_cpus=1, resources={place: 1}, **_RAY_MEMORY, **options)


def test_a_place_without_a_node_is_named(lab: Lab):
    line = lab.complaint({"ray": {"nodes_within_s": 0.5}})
    assert "no node of the cluster is in place ingestion, training after 0 s" in line
    assert "(no place)" in line


def test_a_cluster_that_is_not_there_is_named(lab: Lab):
    line = lab.complaint({"ray": {"address": f"127.0.0.1:{free_port()}"}}, status=1)
    assert "does not answer: Connection refused; is the head up?" in line


def with_another_torch(folder: Path) -> dict[str, str]:
    """Return the environment of a node that has torch 1.13 installed."""
    installed = folder / "site" / "torch-1.13.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.13.0\n")
    return {**os.environ, "PYTHONPATH": str(installed.parent)}


def test_a_node_with_another_torch_is_named(cluster: Cluster, lab: Lab, tmp_path: Path):
    node = add_node(cluster, "training", env_vars=with_another_torch(tmp_path))
    try:
        line = lab.complaint({"gateway": {"place": ""}, "releases": {"place": ""}})
    finally:
        cluster.remove_node(node)
    assert "has torch 1.13.0 instead of" in line


def test_more_threads_than_a_node_has_cores_are_refused(cluster: Cluster, lab: Lab):
    node = add_node(cluster, "everything")
    places = {part: {"place": "everything"} for part in ("gateway", "releases")}
    try:
        training = {"place": "everything", "threads": 3}
        line = lab.complaint(places | {"training": training})
    finally:
        cluster.remove_node(node)
    assert "training.threads 3 exceeds the 1 cores of node" in line


def test_two_nodes_for_one_store_are_refused(cluster: Cluster, lab: Lab):
    nodes = [add_node(cluster, "everything") for _ in range(2)]
    try:
        places = {part: {"place": "everything"} for part in ("gateway", "releases", "training")}
        line = lab.complaint(places)
    finally:
        for node in nodes:
            cluster.remove_node(node)
    assert "gateway.place 'everything' has 2 nodes" in line
    assert "only one disk" in line


def note_where(team: Team, *, folder: Path) -> None:
    (folder / str(team.rank)).write_text(ray.get_runtime_context().get_node_id())


@pytest.mark.slow
def test_workers_train_in_the_place_of_training(cluster: Cluster, lab: Lab, tmp_path: Path):
    training = [add_node(cluster, "training") for _ in range(2)]
    # Both workers would fit on this one, which is where Ray would rather have them.
    roomy = cluster.add_node(num_cpus=2, **_RAY_MEMORY)
    try:
        config = lab.config({"training": {"workers": 2}})
        with ray_of(config):
            run_team(config, partial(note_where, folder=tmp_path))
    finally:
        for node in (*training, roomy):
            cluster.remove_node(node)
    ran_on = {(tmp_path / rank).read_text() for rank in ("0", "1")}
    assert ran_on == {node.node_id for node in training}


@pytest.mark.slow
def test_a_node_that_comes_back_with_another_torch_is_named(
    cluster: Cluster, lab: Lab, tmp_path: Path
):
    fill_store(lab.folder.root / "store", count=30)
    node = add_node(cluster, "training")
    learner = lab.start({"gateway": {"place": ""}, "releases": {"place": ""}})
    try:
        wait_until(lambda: lab.checkpointed_step > 0, "a checkpoint", 120.0)
        cluster.remove_node(node, allow_graceful=False)
        trained = len(lab.metrics)
        node = add_node(cluster, "training", env_vars=with_another_torch(tmp_path))
        assert learner.wait(120) == 2, lab.log
    finally:
        learner.kill()
        learner.wait()
        cluster.remove_node(node)
    (line,) = (line for line in lab.log.splitlines() if line.startswith("learner: "))
    assert "has torch 1.13.0 instead of" in line
    assert len(lab.metrics) == trained


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_learner_outlives_every_node_but_its_own(cluster: Cluster, lab: Lab):
    fill_store(lab.folder.root / "store", count=30)
    ingestion, training = add_node(cluster, "ingestion"), add_node(cluster, "training")
    learner = lab.start()
    try:
        wait_until(lambda: lab.checkpointed_step > 0, "a checkpoint", 120.0)
        assert lab.answers()

        cluster.remove_node(training, allow_graceful=False)
        lines, resumed_from = len(lab.metrics), lab.checkpointed_step
        assert lab.answers()
        training = add_node(cluster, "training")
        wait_until(lambda: len(lab.metrics) > lines, "training on the new node", 120.0)
        assert all(line["step"] >= resumed_from for line in lab.metrics[lines:])

        cluster.remove_node(ingestion, allow_graceful=False)
        wait_until(lambda: not lab.answers(), "the gateway's end", 60.0)
        ingestion = add_node(cluster, "ingestion")
        wait_until(lab.answers, "the gateway on the new node, with its store", 120.0)
        lines = len(lab.metrics)
        wait_until(lambda: len(lab.metrics) > lines, "training goes on", 120.0)

        learner.send_signal(signal.SIGTERM)
        assert learner.wait(60) == 0, lab.log
    finally:
        learner.kill()
        learner.wait()
        for node in (ingestion, training):
            cluster.remove_node(node)
