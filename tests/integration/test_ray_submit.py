"""A cluster of two machines by ``ray up``, a learner by ``ray submit``, and robots it teaches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from fleet.fleet_files import FleetPlan, prepare_run_folder
from fleet.run_folder import RunFolder
from protocol.errors import ConfigurationError
from robot_agent.outbox import outbox_counts
from tests.chaos.independent_reader import read_store
from tests.delivery_site import ROOT, wait_until
from tests.ssh_machines import SshMachine, two_ssh_machines

ROBOTS = 2
LEARNS_AT_ONCE = {
    "ray": {"address": "auto", "nodes_within_s": 120.0},
    "gateway": {"place": "ingestion"},
    "releases": {"place": "ingestion", "interval_s": 2.0},
    "training": {"place": "training", "batch_size": 16, "first_after_attempts": 6},
    "collection": {"random_attempts": 10},
}
_STARTS_WORKERS = {"RAY_UP_enable_autoscaler_v2": "0"}


@dataclass(frozen=True)
class Cluster:
    """Two machines, the operator's own files, and the cluster file made for them."""

    head: SshMachine
    worker: SshMachine
    operator: SshMachine
    """On the head's network, but with a home and processes of its own."""
    file: Path
    lab: RunFolder
    """As the operator made it; the head gets a copy."""

    def ray(self, *arguments: str) -> list[str]:
        """Return a command line of Ray's, as the operator types it in the checkout."""
        ray = str(Path(sys.executable).with_name("ray"))
        settings = [f"{name}={value}" for name, value in _STARTS_WORKERS.items()]
        return self.operator.command("env", *settings, ray, *arguments)

    def on_head(self, path: Path) -> Path:
        """Return where the head has what lies at ``path`` in the lab."""
        return self.head.disk / "graspfleet" / "lab" / path.relative_to(self.lab.root)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with two_ssh_machines(tmp_path) as (head, worker, key):
        operator = SshMachine(head.machine, tmp_path / "operator")
        lab = make_lab(tmp_path / "lab", head.address)
        cluster = Cluster(head, worker, operator, tmp_path / "cluster.yaml", lab)
        cluster.file.write_text(yaml.safe_dump(cluster_table(cluster, key)))
        yield cluster


def make_lab(folder: Path, address: str) -> RunFolder:
    """Enrol robots, with a learner that listens at every address of the head."""
    lab = RunFolder(root=folder)
    plan = FleetPlan(robots=ROBOTS, seed=0, learner_options=LEARNS_AT_ONCE)
    prepare_run_folder(lab, plan)
    here = "tcp://127.0.0.1:"
    for path, there in [
        (lab.learner_config, "tcp://0.0.0.0:"),
        *((lab.robot_config(name), f"tcp://{address}:") for name in lab.robot_names()),
    ]:
        path.write_text(path.read_text().replace(here, there))
    return lab


def cluster_table(cluster: Cluster, key: Path) -> dict[str, Any]:
    """Return deploy/ray/cluster.yaml for these machines; what a lab would change, and pip."""
    table: dict[str, Any] = yaml.safe_load((ROOT / "deploy/ray/cluster.yaml").read_text())
    table["provider"] |= {"head_ip": cluster.head.address, "worker_ips": [cluster.worker.address]}
    table["auth"] |= {"ssh_user": "root", "ssh_private_key": str(key)}
    secret = "~/graspfleet/lab/keys/release.secret"
    table["file_mounts"][secret] = str(cluster.lab.keys / "release.secret")
    installed = Path(sys.executable).parent
    protect, *_ = table["setup_commands"]
    # There is no package index here: what was installed for the tests, and the source as mounted.
    paths = f"export PATH={installed}:$PATH PYTHONPATH=~/graspfleet/source"
    table["setup_commands"] = [protect, f"echo '{paths}' > ~/.bashrc"]
    return table


@pytest.fixture
def robots(cluster: Cluster) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Simulated robots across the cable from the head, in processes of their own."""
    started = []
    for name in cluster.lab.robot_names():
        log = (cluster.lab.root / f"{name}.log").open("wb")
        config = str(cluster.lab.robot_config(name))
        command = [*cluster.worker.machine.prefix, sys.executable, "-m", "robot_agent"]
        started.append(
            subprocess.Popen([*command, "--config", config], cwd=ROOT, stdout=log, stderr=log)
        )
    yield started
    for robot in started:
        robot.kill()
        robot.wait()


def acked(cluster: Cluster) -> dict[str, int]:
    found = {}
    for name in cluster.lab.robot_names():
        try:
            found[name] = outbox_counts(cluster.lab.robots / name / "state").acked
        except ConfigurationError:
            found[name] = 0  # it has not made its outbox yet
    return found


def status(cluster: Cluster) -> dict[str, Any]:
    """Ask the learner as an operator on the head does; {} while it does not answer."""
    lab = cluster.on_head(cluster.lab.root)
    fleet = [sys.executable, "-m", "fleet", "status", "--json", "--run", str(lab)]
    command = [*cluster.head.machine.prefix, *fleet]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    return msgspec.json.decode(done.stdout) if done.returncode == 0 else {}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_learner_submitted_to_two_machines_receives_trains_and_releases(
    cluster: Cluster, robots: list[subprocess.Popen[bytes]], tmp_path: Path
):
    up(cluster)
    with (tmp_path / "submit.log").open("wb") as log:
        submitted = subprocess.Popen(submit(cluster), cwd=ROOT, stdout=log, stderr=log)
    try:
        wait_until(
            lambda: all_use_a_release(cluster) or submitted.poll() is not None,
            "every robot uses a release",
            300.0,
        )
        assert submitted.poll() is None, (tmp_path / "submit.log").read_text()[-3000:]
        before = acked(cluster)
        wait_until(
            lambda: all(acked(cluster)[name] > before[name] for name in before),
            "attempts with the release are delivered",
            120.0,
        )
        assert submitted.poll() is None
    finally:
        submitted.kill()
        submitted.wait()
    # What each machine has on its disk says what ran there.
    head, worker = (one.disk / "graspfleet/lab/learner" for one in (cluster.head, cluster.worker))
    stored = {one.key[0] for one in read_store(head / "episodes")}
    assert stored == set(cluster.lab.robot_names())
    assert not (worker / "episodes").exists()
    assert list((head / "releases").glob("release-*.gfrel"))
    assert (worker / "metrics.jsonl").read_bytes()
    assert not (head / "metrics.jsonl").exists()


def up(cluster: Cluster) -> None:
    """Make the cluster and copy the lab to its head, as docs/cluster.md has it."""
    run(cluster.ray("get-auth-token", "--generate"))
    run(cluster.ray("up", "--yes", "--no-config-cache", str(cluster.file)))
    run(cluster.ray("rsync-up", str(cluster.file), f"{cluster.lab.root}/", "~/graspfleet/lab/"))


def submit(cluster: Cluster) -> list[str]:
    config = ["--config", "~/graspfleet/lab/learner.toml"]
    return cluster.ray("submit", str(cluster.file), "learner/__main__.py", "--", *config)


def run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def all_use_a_release(cluster: Cluster) -> bool:
    found = status(cluster).get("robots", [])
    return len(found) == ROBOTS and all(robot["release_version"] > 0 for robot in found)
