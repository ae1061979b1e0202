"""A cluster of two machines by ``ray up``, a learner by ``ray submit``, and robots it teaches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from fleet.commands.output import EXIT_NOT_WELL
from fleet.fleet_files import FleetPlan, prepare_run_folder
from fleet.run_folder import RunFolder
from protocol.errors import ConfigurationError
from robot_agent.delivery.outbox import outbox_counts
from tests.chaos.independent_reader import read_store
from tests.delivery_site import ROOT
from tests.ssh_machines import SshMachine, two_ssh_machines
from tests.waiting import wait_until

ROBOTS = 2
CHANCE, MARGIN = 0.5, 0.2
"""Area under the ROC curve on held-out attempts, of who knows nothing; and what learning adds."""
HELD_OUT, ATTEMPTS = 0.1, 1000
"""Share and attempts, so that a hundred judge: by them who knows nothing has 0.5 +- 0.06."""
TIMES_AS_GOOD = 1.5
"""The share of successes in all that was ever trained on, against what came first, at random."""
LEARNS_AT_ONCE = {
    "ray": {"address": "auto", "nodes_within_s": 120.0},
    "gateway": {"place": "ingestion"},
    "releases": {"place": "ingestion", "interval_s": 2.0},
    "training": {
        "place": "training",
        "batch_size": 64,
        "first_after_attempts": 200,
        "held_out_fraction": HELD_OUT,
        "checkpoint_interval_s": 2.0,
    },
    "collection": {"random_attempts": 100},
}
LEARNER = "graspfleet/lab/learner"
"""The learner's folder within a home."""
_SETTINGS = {"RAY_UP_enable_autoscaler_v2": "0", "RAY_AUTH_MODE": "token"}
"""What docs/cluster.md has an operator export."""


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
        settings = [f"{name}={value}" for name, value in _SETTINGS.items()]
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
    return msgspec.json.decode(done.stdout) if done.returncode in (0, EXIT_NOT_WELL) else {}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_learner_submitted_to_two_machines_learns_and_resumes_as_a_job(
    cluster: Cluster, robots: list[subprocess.Popen[bytes]]
):
    up(cluster)
    with running(submit(cluster), cluster):
        wait_for(lambda: all_use_a_release(cluster), "every robot uses a release")
        wait_for(lambda: checkpointed_step(cluster) > 0, "a checkpoint")
        before = acked(cluster)
        wait_for(
            lambda: all(acked(cluster)[name] > before[name] for name in before),
            "attempts with the release are delivered",
        )
        wait_for(lambda: has_learned(metrics(cluster)), "a network that knows and robots that can")
    assert_each_part_ran_in_its_place(cluster)
    wait_for(lambda: not status(cluster), "the end of the learner")

    before, resumed_from = acked(cluster), checkpointed_step(cluster)
    lines = len(metrics(cluster))
    with running(submit_job(cluster), cluster):
        wait_for(
            lambda: all(acked(cluster)[name] > before[name] for name in before),
            "attempts are delivered to the job",
        )
        wait_for(
            lambda: len(judgements(metrics(cluster)[lines:])) > 1, "it is judged on all it has"
        )
    print_course(metrics(cluster), lines)
    before_it, resumed = trained(metrics(cluster)[:lines]), trained(metrics(cluster)[lines:])
    assert all(line["step"] >= resumed_from for line in resumed)
    for name in ("attempts", "release_version"):
        assert all(line[name] >= before_it[-1][name] for line in resumed), name
    assert judgements(resumed)[-1] > CHANCE + MARGIN
    assert all(robot.poll() is None for robot in robots)


@contextmanager
def running(command: list[str], cluster: Cluster) -> Iterator[None]:
    """Have a submitted learner run within the block; what it said is shown if that fails."""
    log = cluster.file.with_suffix(".log")
    with log.open("ab") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
    try:
        yield
        assert process.poll() is None, "it ended by itself"
    except AssertionError:
        print(log.read_text()[-5000:])
        raise
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, what, 360.0)


def assert_each_part_ran_in_its_place(cluster: Cluster) -> None:
    """What each machine has on its disk says what ran there."""
    head, worker = (one.disk / LEARNER for one in (cluster.head, cluster.worker))
    assert {one.key[0] for one in read_store(head / "episodes")} == set(cluster.lab.robot_names())
    assert not (worker / "episodes").exists()
    assert list((head / "releases").glob("release-*.gfrel"))
    assert metrics(cluster)
    assert not (head / "metrics.jsonl").exists()


def metrics(cluster: Cluster) -> list[dict[str, Any]]:
    path = cluster.worker.disk / LEARNER / "metrics.jsonl"
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def trained(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines since the first step after a start: until then the replay is filled."""
    return [one for one in lines if one["loss"] is not None]


def has_learned(lines: list[dict[str, Any]]) -> bool:
    course = trained(lines)
    return (
        bool(course)
        and course[-1]["attempts"] >= ATTEMPTS
        and course[-1].get("held_out_auc", CHANCE) > CHANCE + MARGIN
        and course[-1]["success_share"] > TIMES_AS_GOOD * course[0]["success_share"]
    )


def judgements(lines: list[dict[str, Any]]) -> list[float]:
    """Return the area under the curve of each evaluation."""
    found = [one["held_out_auc"] for one in trained(lines) if "held_out_auc" in one]
    return list(dict.fromkeys(found))


def print_course(lines: list[dict[str, Any]], resumed_at: int) -> None:
    """Print how training went."""
    names = ("step", "attempts", "release_version", "held_out_auc", "success_share")
    for number, line in enumerate(lines):
        if number % 5 == 0 or number in (resumed_at - 1, resumed_at, len(lines) - 1):
            figures = ", ".join(f"{name} {line[name]:.4g}" for name in names if name in line)
            print(f"{'job' if number >= resumed_at else 'submitted'}: {figures}")


def checkpointed_step(cluster: Cluster) -> int:
    files = (cluster.worker.disk / LEARNER / "checkpoints").glob("*.safetensors")
    return max((int(path.stem) for path in files), default=0)


def up(cluster: Cluster) -> None:
    """Make the cluster and copy the lab to its head, as docs/cluster.md has it."""
    run(cluster.ray("get-auth-token", "--generate"))
    run(cluster.ray("up", "--yes", "--no-config-cache", str(cluster.file)))
    run(cluster.ray("rsync-up", str(cluster.file), f"{cluster.lab.root}/", "~/graspfleet/lab/"))


def submit(cluster: Cluster) -> list[str]:
    config = ["--config", "~/graspfleet/lab/learner.toml"]
    return cluster.ray("submit", str(cluster.file), "learner/__main__.py", "--", *config)


def submit_job(cluster: Cluster) -> list[str]:
    config = cluster.head.home / "graspfleet/lab/learner.toml"
    learner = ["python", "-m", "learner", "--config", str(config)]
    server = "http://127.0.0.1:8265"
    return cluster.ray("job", "submit", "--address", server, "--working-dir", ".", "--", *learner)


def run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def all_use_a_release(cluster: Cluster) -> bool:
    found = status(cluster).get("robots", [])
    return len(found) == ROBOTS and all(robot["release_version"] > 0 for robot in found)
