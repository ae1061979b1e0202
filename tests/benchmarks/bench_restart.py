"""How long the learner takes to start and to come back, against Ray's own actors doing nothing.

    python -m tests.benchmarks.bench_restart [--seconds 120] [--out FILE]

Every round starts three programs, one after the other, and kills their actors' processes: Ray with
one actor that does nothing; Ray with as many actors as the learner has, of which one loads torch,
which no process that trains can do without; and a learner with a filled store.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil
import ray

from fleet.fleet_files import FleetPlan, prepare_run_folder
from fleet.operator import operator_connection
from fleet.run_folder import RunFolder
from fleet.status import StatusClient
from protocol.errors import TransientError
from tests.benchmarks.figures import Figure, Findings, add_out_option, figure_of, report
from tests.chaos.learner_processes import ACTORS, GATEWAY, TRAINER, LearnerProcesses
from tests.delivery_site import ROOT
from tests.learner.spot_task import SIDE_PX, fill_store
from tests.waiting import wait_until

EPISODES = 100
DEADLINE_S = 120.0
Seconds = tuple[str, list[float]]
"""What was timed, and how long it took in each round."""
_MARK = "bench_restart:"
_SETTINGS = {
    "image_height_px": SIDE_PX,
    "image_width_px": SIDE_PX,
    "gateway": {"max_store_bytes": 100_000_000},
    # The first checkpoint of a process says when its first step was done.
    "training": {"first_after_attempts": 10, "checkpoint_interval_s": 0.05, "max_visits": 1e9},
}


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of one round of one side."""

    start: float
    """From the program's start until its actors answer, or the first training step is done."""
    restart: float
    """From SIGKILL until the first bare actor, or the gateway, answers again."""
    torch_restart: float = 0.0
    """The same of the actor with torch; of the trainer until its next step."""


class Bare:
    """An actor that does nothing."""

    def process_id(self) -> int:
        return os.getpid()


class WithTorch:
    """An actor that could train."""

    def __init__(self) -> None:
        import torch

        torch.ones(1)

    def process_id(self) -> int:
        return os.getpid()


PROGRAMS: dict[str, list[type]] = {"one": [Bare], "three": [Bare, Bare, WithTorch]}
"""What runs on Ray alone, by the name that the command line has for it."""


class Round(NamedTuple):
    """One of each program."""

    one: Times
    three: Times
    learner: Times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="about what it may take")
    parser.add_argument("--bare", choices=PROGRAMS, help=argparse.SUPPRESS)
    add_out_option(parser)
    arguments = parser.parse_args()
    if arguments.bare:
        run_bare(PROGRAMS[arguments.bare])
        return
    rounds: list[Round] = []
    began_s = time.monotonic()
    round_s = 0.0
    while not rounds or time.monotonic() - began_s + round_s < arguments.seconds:
        round_began_s = time.monotonic()
        rounds.append(Round(time_bare("one"), time_bare("three"), time_learner()))
        round_s = time.monotonic() - round_began_s
    report(findings(rounds), arguments.out)


def run_bare(kinds: list[type]) -> None:
    """Be Ray's side of a round: say when its actors answer, then how long restarts take."""
    ray.init(
        address="local",
        num_cpus=os.cpu_count(),
        include_dashboard=False,
        object_store_memory=100_000_000,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
    )
    actors = [started(kind) for kind in kinds]
    ray.get([actor.process_id.remote() for actor in actors])
    print(_MARK, flush=True)
    # The first does nothing, the last may load torch.
    print(_MARK, restart_s(actors[0]), restart_s(actors[-1]), flush=True)


def started(kind: type) -> Any:
    actor_class: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(kind)
    return actor_class.remote()


def restart_s(actor: Any) -> float:
    process = psutil.Process(ray.get(actor.process_id.remote()))
    began_s = time.monotonic()
    process.kill()
    process.wait()
    ray.get(actor.process_id.remote())
    return time.monotonic() - began_s


def time_bare(name: str) -> Times:
    command = [sys.executable, "-m", "tests.benchmarks.bench_restart", "--bare", name]
    began_s = time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as program:
        assert program.stdout is not None
        # Ray's own processes write to the same pipe.
        said = (line.split()[1:] for line in program.stdout if line.startswith(_MARK))
        next(said)
        start_s = time.monotonic() - began_s
        restart, torch_restart = map(float, next(said))
    return Times(start=start_s, restart=restart, torch_restart=torch_restart)


def time_learner() -> Times:
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(root=Path(folder) / "run")
        prepare_run_folder(run, FleetPlan(robots=0, seed=0, learner_options=_SETTINGS))
        fill_store(run.store, count=EPISODES)
        began_s = time.monotonic()
        command = [sys.executable, "-m", "learner", "--config", str(run.learner_config)]
        learner = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait(lambda: newest_step(run) > 0)
            start_s = time.monotonic() - began_s
            processes = LearnerProcesses(driver=psutil.Process(learner.pid))
            wait(lambda: processes.look() or processes.parts().keys() >= ACTORS)
            trainer, gateway = processes.parts()[TRAINER], processes.parts()[GATEWAY]
            torch_restart = time_kill(trainer, step_is_beyond_the_last(run))
            restart = time_kill(gateway, lambda: answers(run))
        finally:
            learner.terminate()
            learner.wait()
    return Times(start=start_s, restart=restart, torch_restart=torch_restart)


def time_kill(process: psutil.Process, is_back: Callable[[], bool]) -> float:
    began_s = time.monotonic()
    process.kill()
    wait_until(lambda: not process.is_running(), "its end", DEADLINE_S)
    wait(is_back)
    return time.monotonic() - began_s


def step_is_beyond_the_last(run: RunFolder) -> Callable[[], bool]:
    """Return a question that is answered by whoever steps after the trainer that runs now."""
    last: list[int] = []

    def is_beyond() -> bool:
        # Asked first when the old trainer has ended.
        if not last:
            last.append(newest_step(run))
        return newest_step(run) > last[0]

    return is_beyond


def newest_step(run: RunFolder) -> int:
    files = (run.learner / "checkpoints").glob("*.safetensors")
    return max((int(path.stem) for path in files), default=0)


def answers(run: RunFolder) -> bool:
    """Say whether the gateway answers an operator who has just connected."""
    (endpoint,), keys, server_public = operator_connection(run)
    host, port = endpoint.removeprefix("tcp://").split(":")
    try:
        # A connection that is refused would be tried again only a tenth of a second later.
        socket.create_connection((host, int(port)), 1.0).close()
        with StatusClient([endpoint], keys, server_public) as client:
            client.fetch()
    except (OSError, TransientError):
        return False
    return True


def wait(condition: Callable[[], bool | None]) -> None:
    wait_until(lambda: bool(condition()), "coming up", DEADLINE_S)


def findings(rounds: list[Round]) -> Findings:
    return Findings(
        title="Starting, and coming back after SIGKILL",
        settings={
            "rounds": len(rounds),
            "episodes stored": EPISODES,
            "cores": os.cpu_count() or 0,
        },
        figures=[
            *compared(
                ("learner started, first training step done", [r.learner.start for r in rounds]),
                ("Ray with one bare actor", [r.one.start for r in rounds]),
                ("Ray with three, one of which loads torch", [r.three.start for r in rounds]),
            ),
            *compared(
                ("gateway back, answering", [r.learner.restart for r in rounds]),
                ("a lone bare actor back", [r.one.restart for r in rounds]),
                ("a bare actor of three back", [r.three.restart for r in rounds]),
            ),
            *compared(
                ("trainer back, next step done", [r.learner.torch_restart for r in rounds]),
                ("actor with torch back", [r.three.torch_restart for r in rounds]),
            ),
        ],
    )


def compared(ours: Seconds, *rays: Seconds) -> Iterator[Figure]:
    """Yield what ours took, and for each of Ray's what that took and ours over it, by round."""
    name, seconds = ours
    yield figure_of(name, seconds, "s")
    for other, others in rays:
        yield figure_of(other, others, "s")
        ratios = [our / their for our, their in zip(seconds, others, strict=True)]
        yield figure_of(f"{name}, by {other}", ratios, "x", bound="<= 1.5")


if __name__ == "__main__":
    main()
