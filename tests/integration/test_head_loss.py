"""A Ray head is killed: the learner says so and ends, and one command brings all of it back."""

from __future__ import annotations

import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from tests.chaos.fleet_under_fire import LIGHT_TRAINING, FirePlan, FleetUnderFire
from tests.chaos.learner_processes import ACTORS, CONTROL, RAYLET, is_alive, name_of
from tests.free_ports import free_port
from tests.waiting import wait_until

DEADLINE_S = 300.0
END_S = 50.0
"""Of a learner after its head: less than the minute in which Ray would end it without a word."""


class RayHead:
    """``ray start --head``, with a port and a folder of its own: no other Ray is touched."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._folder = folder
        self._seen: list[psutil.Process] = []

    def start(self) -> None:
        """Start it anew; returns when it can be joined."""
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "start", "--head", "--block", "--node-ip-address", "127.0.0.1"]
        command += ["--port", str(self.port), "--temp-dir", str(self._folder)]
        command += ["--num-cpus", "2", "--object-store-memory", "100000000"]
        command += ["--include-dashboard", "false"]
        said = self._folder / "said"
        with said.open("wb") as log:
            self._seen.append(psutil.Popen(command, stdout=log, stderr=log))
        self._starter = self._seen[-1]
        wait_until(lambda: "Ray runtime started" in said.read_text(), "Ray's start", DEADLINE_S)

    def processes(self) -> list[psutil.Process]:
        """Return all that runs on this Ray."""
        try:
            found = self._starter.children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        self._seen += [one for one in found if one not in self._seen]
        return [one for one in found if is_alive(one)]

    def kill(self) -> list[psutil.Process]:
        """SIGKILL to what makes it a head and a node; return what ran on it."""
        processes = self.processes()
        own = [one for one in processes if name_of(one) in (CONTROL, RAYLET)]
        assert len(own) == 2, own
        for process in own:
            process.kill()
        return [one for one in processes if one not in own]

    def close(self) -> None:
        """End all that was ever seen of it."""
        self.processes()
        for process in filter(is_alive, self._seen):
            process.kill()


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayHead]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Ray runs what it starts at 15, which on a busy machine is never.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    # Not below the test's folder: the paths of Ray's sockets would be too long.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        head = RayHead(Path(folder))
        try:
            head.start()
            yield head
        finally:
            head.close()


def make_fleet(folder: Path, head: RayHead, *, robots: int) -> FleetUnderFire:
    """Return a learner that joins the head, and emulated robots that deliver."""
    training = {**LIGHT_TRAINING["training"], "checkpoint_interval_s": 1.0}
    options = {**LIGHT_TRAINING, "training": training, "ray": {"address": head.address}}
    plan = FirePlan(
        agents=0,
        groups=1 if robots else 0,
        robots_per_group=robots,
        interval_s=0.5,
        learner_options=options,
    )
    return FleetUnderFire(folder, plan)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_learner_whose_head_was_killed_ends_in_words_and_resumes_with_the_next_head(
    tmp_path: Path, head: RayHead
):
    with make_fleet(tmp_path, head, robots=4) as fleet:
        await_fleet(fleet, lambda: newest_release(fleet) > 1, "two releases")
        left = head.kill()
        assert {name_of(one) for one in left} >= ACTORS
        assert_ends_in_words(fleet, head)
        # Nobody else would give back ports and stores.
        wait_until(lambda: not any(map(is_alive, left)), "the end of all that ran on it", END_S)
        before, saved, lines = fleet.acked, checkpointed_step(fleet), metrics(fleet)

        head.start()
        fleet.learner.start()
        await_fleet(fleet, lambda: fleet.acked > before + 20, "deliveries to the new gateway")
        await_fleet(
            fleet, lambda: newest_release(fleet) > lines[-1]["release_version"], "the next release"
        )
        fleet.end()
        assert_goes_on(metrics(fleet)[len(lines) :], lines[-1], saved)
        found = fleet.comparison()
        print(f"checkpoint at step {saved}; acked {before} before, {fleet.acked} in the end")
        for said, line in (("last", lines[-1]), ("first", metrics(fleet)[len(lines)])):
            print(said, {name: line[name] for name in ("step", "attempts", "release_version")})
        print(found)
        assert found.is_clean, found


@pytest.mark.slow
def test_a_learner_whose_head_is_killed_while_it_starts_ends_in_words(
    tmp_path: Path, head: RayHead
):
    with make_fleet(tmp_path, head, robots=0) as fleet:
        await_fleet(fleet, lambda: bool(trainers(head)), "a trainer that is being made")
        (trainer,) = trainers(head)
        trainer.suspend()
        wait_until(lambda: "robots fetch releases" in log_of(fleet), "the others", DEADLINE_S)
        head.kill()
        assert_ends_in_words(fleet, head)


def trainers(head: RayHead) -> list[psutil.Process]:
    # An actor that is being made carries the name of its constructor.
    made = "ray::TrainingActor.__init__"
    return [one for one in head.processes() if one.cmdline()[:1] == [made]]


def assert_ends_in_words(fleet: FleetUnderFire, head: RayHead) -> None:
    assert fleet.learner.wait(END_S) == 1, log_of(fleet)[-5000:]
    (line,) = (one for one in log_of(fleet).splitlines() if one.startswith("learner: "))
    # Ray gives 127.0.0.1 as the address of this machine's network.
    assert f":{head.port} has not answered" in line
    assert "start Ray again" in line


def assert_goes_on(
    resumed: list[dict[str, Any]], last: dict[str, Any], checkpointed_step: int
) -> None:
    """Check lines of metrics after a restart against the last one before, and the checkpoint."""
    assert all(one["step"] >= checkpointed_step for one in resumed)
    # Until the first step the replay is filled, and has no attempts.
    trained = [one for one in resumed if one["loss"] is not None]
    assert trained
    for name in ("attempts", "release_version"):
        course = [last[name], *(one[name] for one in trained)]
        assert course == sorted(course), name


def await_fleet(fleet: FleetUnderFire, condition: Callable[[], bool], what: str) -> None:
    def tended() -> bool:
        assert fleet.learner.running, log_of(fleet)[-5000:]
        fleet.tend()
        return condition()

    wait_until(tended, what, DEADLINE_S)


def log_of(fleet: FleetUnderFire) -> str:
    path = fleet.folder.logs / "learner.log"
    return path.read_text() if path.exists() else ""


def metrics(fleet: FleetUnderFire) -> list[dict[str, Any]]:
    path = fleet.folder.learner / "metrics.jsonl"
    if not path.exists():
        return []
    # What a kill cut off is half a line.
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [msgspec.json.decode(line) for line in whole.splitlines()]


def checkpointed_step(fleet: FleetUnderFire) -> int:
    files = (fleet.folder.learner / "checkpoints").glob("*.safetensors")
    return max((int(path.stem) for path in files), default=0)


def newest_release(fleet: FleetUnderFire) -> int:
    return max((one["release_version"] for one in metrics(fleet)), default=0)
