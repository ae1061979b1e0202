"""A release on its way to the last of 32 robots, beside a bare PUB; and in how many bytes.

    python -m tests.benchmarks.bench_release [--seconds 150] [--agents 32] [--out FILE]

A round publishes the same file twice, once by a bare PUB and once by the release server, both under
CURVE. Robots are spread over a few processes, with a SUB and an agent's connection and release
fetcher each. Two times are held to the same bound: until the last robot has the bytes (the file
from the PUB; the file or its packing from the release server), which is all that a PUB does; and
until the last robot has unpacked, verified and kept the release, which is what a fleet waits for.
What is between them is the robots' own work, 32 times on the cores of one machine.

From one release to the next weights move by so much that a packing is as large a part of the file
as it was of a demo's releases, a seventh. With --releases FOLDER a learner's own are packed too.
"""

from __future__ import annotations

import argparse
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import torch
import zmq

from learner.networks import build_network
from learner.releases.builder import ReleaseBuilder
from learner.releases.server import ReleaseServer
from protocol.registry import Registry
from protocol.release_packing import pack_release_file
from tests.benchmarks.figures import Figure, Findings, add_out_option, figure_of, report
from tests.benchmarks.release_group import Job, Side
from tests.releases import (
    SIGNING_KEY,
    make_curve_keys,
    make_manifest,
    make_release,
    write_secret,
)
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SIZE_PX = 64
LARGE_BYTES = 4_000_000
MOVE = 0.01
"""Standard deviation of how far a weight moves between releases, as a share of itself."""
WITHIN_S = 60.0
MOST_ROUNDS = 20
SETTLE_S = 0.3
BOUND = "<= 1.5"
FLOAT32_EXTRA = 2
"""Bytes a trained weight took beyond today's two, before releases were in half precision."""

Source = Callable[[int], bytes]
"""Makes the release file of a version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """One release, published once by one side; seconds."""

    arrived_s: float
    """Until the last robot had the bytes."""
    kept_s: float
    """Until the last robot had it unpacked, verified and on its disk; by PUB the same."""
    cpu_s: float
    """Of the server."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One release, published once by each side."""

    bare: Published
    ours: Published


class Site:
    """A release server and a PUB in this process, robots in others."""

    def __init__(self, folder: Path, agents: int, processes: int) -> None:
        keys = make_curve_keys()
        registry = Registry(folder / "registry")
        robots = [make_curve_keys() for _ in range(agents)]
        for place, robot in enumerate(robots):
            registry.enrol(f"robot-{place}", robot.public.decode("ascii"))
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._publisher = self._context.socket(zmq.PUB)
        self._publisher.setsockopt(zmq.CURVE_SERVER, 1)
        self._publisher.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        port = self._publisher.bind_to_random_port("tcp://127.0.0.1")
        self._server = ReleaseServer(
            endpoint="tcp://127.0.0.1:*",
            server_secret=write_secret(folder / "server.secret", keys),
            registry=registry,
            folder=folder / "releases",
            keep=3,
            signing_key=SIGNING_KEY,
        )
        self._server.start()
        job = Job(
            publisher=f"tcp://127.0.0.1:{port}",
            releases=self._server.endpoint,
            server_public=keys.public,
            verify_key=SIGNING_KEY.public_key().public_bytes_raw(),
            robots=[(robot.public, robot.secret) for robot in robots],
            folder=str(folder),
        )
        self._agents = agents
        self._selector = selectors.DefaultSelector()
        self._groups = [self._start_group(job, place, processes) for place in range(processes)]
        wait_until(lambda: self._server.peers == agents, "every robot is connected", WITHIN_S)
        time.sleep(1.0)  # the SUBs' subscriptions

    def publish(self, side: Side, data: bytes) -> Published:
        """Publish to all and wait for the last robot."""
        time.sleep(SETTLE_S)
        cpu_began, began = time.process_time(), time.monotonic()
        if side == "publisher":
            self._publisher.send(data)
        else:
            self._server.publish(data)
        arrived_s, kept_s = zip(*self._arrivals(side), strict=True)
        return Published(
            arrived_s=max(arrived_s) - began,
            kept_s=max(kept_s) - began,
            cpu_s=time.process_time() - cpu_began,
        )

    def close(self) -> None:
        """End everything."""
        for group in self._groups:
            group.kill()
            group.wait()
        self._selector.close()
        self._server.close()
        self._context.destroy(linger=0)

    def _start_group(self, job: Job, place: int, groups: int) -> subprocess.Popen[bytes]:
        folder = Path(job.folder) / f"group-{place}"
        folder.mkdir()
        part = msgspec.structs.replace(job, robots=job.robots[place::groups], folder=str(folder))
        command = [sys.executable, "-m", "tests.benchmarks.release_group"]
        group = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, bufsize=0
        )
        assert group.stdin is not None
        assert group.stdout is not None
        group.stdin.write(msgspec.json.encode(part) + b"\n")
        self._selector.register(group.stdout, selectors.EVENT_READ, group.stdout)
        return group

    def _arrivals(self, side: Side) -> Iterator[tuple[float, float]]:
        """Yield when each robot had, and had kept, what was published: the monotonic clock."""
        give_up_s = time.monotonic() + WITHIN_S
        missing = self._agents
        while missing:
            ready = self._selector.select(give_up_s - time.monotonic())
            if not ready:
                raise TimeoutError(f"{side}: {missing} of {self._agents} robots have nothing yet")
            for key, _ in ready:
                found, arrived_s, kept_s = key.data.readline().decode().split(",")
                assert found == side
                missing -= 1
                yield float(arrived_s), float(kept_s)


@contextmanager
def open_site(agents: int, processes: int) -> Iterator[Site]:
    """Run a site on a disk in memory where there is one: robots have disks of their own."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        site = Site(Path(folder), agents, processes)
        try:
            yield site
        finally:
            site.close()


def measure(site: Site, release: Source, seconds: float) -> list[Round]:
    """Publish release after release on both sides in turns; the first one is not counted."""
    rounds: list[Round] = []
    give_up_s = time.monotonic() + seconds
    sides: list[Side] = ["publisher", "release server"]
    for version in range(1, MOST_ROUNDS + 2):
        data = release(version)
        found = {side: site.publish(side, data) for side in sides}
        if version > 1:
            rounds.append(Round(bare=found["publisher"], ours=found["release server"]))
        sides.reverse()
        if version > 2 and time.monotonic() > give_up_s:
            break
    return rounds


class MovingNetwork:
    """Releases of one network whose weights move a little from each to the next."""

    def __init__(self, name: str, seed: int) -> None:
        torch.manual_seed(seed)
        self.name = name
        self._network = build_network(name, height_px=SIZE_PX, width_px=SIZE_PX)
        self._builder = ReleaseBuilder(self._network)
        self.weights = sum(parameter.numel() for parameter in self._network.parameters())

    @torch.no_grad()
    def release(self, version: int) -> bytes:
        """Move the weights; return their release."""
        for parameter in self._network.parameters():
            parameter.mul_(1 + MOVE * torch.randn_like(parameter))
        manifest = make_manifest(version, size_px=SIZE_PX)
        return self._builder.build(self._network.state_dict(), manifest, SIGNING_KEY)


def speed_figures(name: str, rounds: list[Round], agents: int) -> list[Figure]:
    """Return how fast a kind of release was, beside the PUB."""
    arrived = [one.ours.arrived_s / one.bare.arrived_s for one in rounds]
    kept = [one.ours.kept_s / one.bare.kept_s for one in rounds]
    cpu = [one.ours.cpu_s / one.bare.cpu_s for one in rounds]
    return [
        figure_of(f"{name}: bytes with the last robot, by bare PUB", arrived, "x", bound=BOUND),
        figure_of(f"{name}: verified and kept by the last, by bare PUB", kept, "x", bound=BOUND),
        figure_of(
            f"{name}: bytes with the last robot", [1e3 * one.ours.arrived_s for one in rounds], "ms"
        ),
        figure_of(
            f"{name}: verified and kept by the last",
            [1e3 * one.ours.kept_s for one in rounds],
            "ms",
        ),
        figure_of(f"{name}: bare PUB", [1e3 * one.bare.arrived_s for one in rounds], "ms"),
        figure_of(
            f"{name}: server's CPU per release and robot",
            [1e3 * one.ours.cpu_s / agents for one in rounds],
            "ms",
        ),
        figure_of(f"{name}: server's CPU, by bare PUB", cpu, "x"),
    ]


def byte_figures(name: str, files: list[bytes], weights: int | None = None) -> list[Figure]:
    """Return how many bytes a release takes in each form, the last of ``files``."""
    data = files[-1]
    packed = [len(pack_release_file(each, before)) for before, each in pairwise(files)]
    figures = [
        _size(f"{name}: file, weights in two bytes", len(data)),
        _size(f"{name}: packed by itself", len(pack_release_file(data))),
        figure_of(f"{name}: packed against the one before", packed, "bytes"),
        _ratio(f"{name}: file by packing against the one before", len(data) / packed[-1]),
    ]
    if weights is not None:
        whole = len(data) + FLOAT32_EXTRA * weights
        figures.insert(0, _size(f"{name}: file, weights in four bytes", whole))
        figures.append(_ratio(f"{name}: fewer bytes in all", whole / packed[-1]))
    return figures


def _size(name: str, size_bytes: int) -> Figure:
    return Figure(name=name, value=float(size_bytes), unit="bytes")


def _ratio(name: str, value: float) -> Figure:
    return Figure(name=name, value=value, unit="x")


def recorded(folder: Path) -> list[bytes]:
    """Return the release files of a folder, oldest first."""
    return [path.read_bytes() for path in sorted(folder.glob("*.gfrel"))]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.bench_release", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=150.0, help="for all of it (150)")
    parser.add_argument("--agents", type=int, default=32)
    parser.add_argument("--processes", type=int, default=8, help="that the agents are spread over")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--releases", type=Path, help="a learner's folder of releases, to pack")
    add_out_option(parser)
    options = parser.parse_args()
    networks = [MovingNetwork(name, options.seed) for name in ("patch", "levine2016")]
    sources: dict[str, Source] = {network.name: network.release for network in networks}
    sources["4 MB that nothing makes smaller"] = lambda version: make_release(
        version, padding_bytes=LARGE_BYTES
    )
    figures: list[Figure] = []
    for name, source in sources.items():
        with open_site(options.agents, options.processes) as site:
            rounds = measure(site, source, 0.6 * options.seconds / len(sources))
        figures += speed_figures(name, rounds, options.agents)
    for network in networks:
        files = [network.release(version) for version in range(100, 105)]
        figures += byte_figures(network.name, files, network.weights)
    if options.releases is not None:
        figures += byte_figures("recorded", recorded(options.releases))
    settings: dict[str, str | int | float] = {
        "agents": options.agents,
        "processes": options.processes,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
    }
    report(Findings(title="Releases", settings=settings, figures=figures), options.out)


if __name__ == "__main__":
    main()
