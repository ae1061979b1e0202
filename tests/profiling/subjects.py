"""What is profiled: a gateway under full load, and a robot's whole agent."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from fleet.child_process import ChildProcess
from fleet.fleet_files import (
    FleetPlan,
    agent_config,
    learner_config,
    prepare_run_folder,
    robot_name,
)
from fleet.run_folder import RunFolder
from learner.networks import build_network
from learner.releases.builder import ReleaseBuilder
from learner.releases.folder import ReleaseFolder
from protocol.errors import ConfigurationError
from protocol.release_manifest import CollectionSettings
from protocol.security import load_release_secret
from robot_agent.delivery.outbox import outbox_counts
from tests.benchmarks.episodes import SIDE_PX, write_all
from tests.benchmarks.peers.contract import CONNECT_S, Load, agent_name
from tests.benchmarks.peers.gateway import address_of
from tests.delivery_site import DeliverySite, make_site
from tests.profiling.recording import ProfilingError, Watched, watched
from tests.releases import make_manifest

ROOT = Path(__file__).parents[2]
AGENTS = 8
WINDOW = 64
KEPT_BYTES = 2**30
"""Of the gateway's store. The load fills it within seconds; from then on the oldest make room, as
with a learner that has run for long, however long the profile takes."""
FIRST_ATTEMPTS = 5
"""When so many are in its outbox, an agent is through with its start, its calibration and its
first release."""
FIRST_ATTEMPTS_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A profile and what belongs to it."""

    path: Path
    thread_seconds: dict[str, float]
    """CPU of every thread by the kernel's account, from the process's start."""
    start_share: float
    """Of the main thread's time: what the start took, which is not looked at."""


def profile_gateway(out: Path, work: Path, seconds: float) -> Seen:
    """Profile a gateway that eight agents give all they can.

    Raises:
        ProfilingError: the profile cannot be taken.
    """
    site = make_site(work)
    for agent in range(AGENTS):
        site.enrol(agent_name(agent))
    write_all(work / "episodes", AGENTS)
    program = ["-m", "tests.delivery_site", "gateway", str(work), str(KEPT_BYTES)]
    with watched(program, out, ROOT) as gateway:
        _load(gateway, site, seconds)
        # Its main thread only starts it, and waits.
        return _finish(gateway, out, start_share=1.0)


def profile_agent(out: Path, work: Path, seconds: float) -> Seen:
    """Profile one simulated robot's agent, which searches with a release and delivers.

    Raises:
        ProfilingError: the profile cannot be taken.
    """
    folder = RunFolder(root=work.resolve())
    prepare_run_folder(folder, FleetPlan(robots=1, seed=0))
    _publish_release(folder)
    config = folder.robot_config(robot_name(0))
    with (
        _service("gateway", "tests.chaos.gateway_alone", folder),
        _service("releases", "tests.integration.release_server_alone", folder),
        watched(["-m", "robot_agent", "--config", str(config)], out, ROOT) as agent,
    ):
        _wait_for_attempts(agent, agent_config(folder, robot_name(0)).state_folder)
        start_s = agent.main_thread_seconds()
        _wait(agent, seconds)
        return _finish(agent, out, start_share=start_s / agent.main_thread_seconds())


def _load(gateway: Watched, site: DeliverySite, seconds: float) -> None:
    load = Load(
        kind="jpeg",
        agents=AGENTS,
        window=WINDOW,
        warm_up_s=0.0,
        seconds=seconds,
        episodes=str(site.folder / "episodes"),
    )
    address = address_of(site.folder, [site.endpoint], [gateway.process.pid])
    arguments = [str(site.folder / "count"), json.dumps(asdict(load)), json.dumps(asdict(address))]
    command = [sys.executable, "-m", "tests.benchmarks.peers.gateway", "load", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 2 * CONNECT_S
    )
    gateway.check()
    if done.returncode:
        raise ProfilingError(f"the agents failed:\n{done.stderr}")


def _publish_release(folder: RunFolder) -> None:
    """Make an untrained network the fleet's first release: it searches as a trained one does."""
    config = learner_config(folder)
    signing_key = load_release_secret(config.keys.release_secret)
    network = build_network("patch", height_px=SIDE_PX, width_px=SIDE_PX).eval()
    collection = CollectionSettings(random_fraction=0.0, max_moves=10)
    manifest = make_manifest(size_px=SIDE_PX, collection=collection)
    data = ReleaseBuilder(network).build(network.state_dict(), manifest, signing_key)
    config.releases.folder.mkdir(parents=True)
    ReleaseFolder(config.releases.folder, 1, signing_key.public_key()).store(1, data)


@contextmanager
def _service(name: str, module: str, folder: RunFolder) -> Iterator[None]:
    arguments = ["-m", module, "--config", str(folder.learner_config)]
    process = ChildProcess(name, arguments, log=folder.logs / f"{name}.log")
    process.start()
    try:
        yield
    finally:
        process.kill()


def _wait_for_attempts(agent: Watched, state_folder: Path) -> None:
    end_s = time.monotonic() + FIRST_ATTEMPTS_S
    while _attempts(state_folder) < FIRST_ATTEMPTS:
        agent.check()
        if time.monotonic() > end_s:
            raise ProfilingError(
                f"the agent has not made {FIRST_ATTEMPTS} attempts in {FIRST_ATTEMPTS_S:.0f} s"
            )
        time.sleep(0.2)


def _attempts(state_folder: Path) -> int:
    try:
        return outbox_counts(state_folder).written
    except ConfigurationError:
        return 0  # it has not made its outbox yet


def _wait(subject: Watched, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        subject.check()
        time.sleep(0.2)


def _finish(subject: Watched, out: Path, *, start_share: float) -> Seen:
    thread_seconds = subject.thread_seconds()
    subject.stop()
    return Seen(path=out, thread_seconds=thread_seconds, start_share=start_share)
