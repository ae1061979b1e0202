"""Many emulated robots in one process, each delivering episodes at a steady rate.

    python -m tests.chaos.emulated_fleet ROBOTS_FOLDER --names arm-1 arm-2 --journal FILE

Every robot has its own key, outbox, uplink thread and heartbeat, all of them the agent's own code.
SIGTERM ends it: what is spooled is delivered first; exit status 0 when nothing is left over.
SIGUSR1 has every robot spool ``--burst`` episodes and hold back all it has; SIGUSR2 lets them go.
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np
import zmq

from protocol.codec import digest, encode_episode
from protocol.episode import Episode
from protocol.errors import OutboxFullError
from robot_agent.config import OutboxConfig
from tests.chaos.emulated_robot import Bundle, EmulatedRobot
from tests.chaos.journal import Journal
from tests.episodes import make_episode

logger = logging.getLogger(__name__)

FIGURES_EVERY_S = 0.5
LOOK_EVERY_S = 0.1
DESCRIPTORS_PER_ROBOT = 18
"""With releases; half of them without. A few are open only while a connection is made."""
SOCKETS_PER_ROBOT = 6
"""A DEALER and both ends of its monitor, twice."""
DRAIN_S = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """One line of what a process of emulated robots says of itself."""

    at_s: float
    """Monotonic clock, the same for every process of this machine."""
    process_id: int
    robots: int
    welcome: int
    """Robots that the learner has answered and takes episodes of."""
    reached: int
    """Robots of which an episode was acked that was spooled since the last burst began, or ever."""
    spooled: int
    """Since this process started, as the next three."""
    acked: int
    full: int
    """Episodes that a full disk or outbox did not take."""
    bursts: int
    """Bursts that are spooled in full."""
    latencies_ms: list[float]
    """From spooling to the ack, of the episodes acked since the last line."""
    release_version: int
    """The oldest release in use on any robot that fetches releases."""
    trouble: str
    """What the first robot in trouble says."""


class EpisodeSource:
    """An endless supply of episodes that differ in their ids, and so in their digests."""

    def __init__(self, pictures: int) -> None:
        """Prepare episodes of so many pictures, two of which belong to no step."""
        self._patterns = [
            make_episode(seed=seed, steps=pictures - 2, success=seed % 3 == 0) for seed in range(8)
        ]
        self._random = np.random.default_rng()
        self._made = 0

    def record(self, robot: str) -> bytes:
        """Return the record of a new episode of this robot."""
        self._made += 1
        pattern = self._patterns[self._made % len(self._patterns)]
        return encode_episode(self._renamed(pattern, robot))

    def _renamed(self, pattern: Episode, robot: str) -> Episode:
        return replace(pattern, robot_id=robot, episode_id=self._random.bytes(16).hex())


class EmulatedFleet:
    """Robots that share a process, a journal and the thread that feeds them."""

    def __init__(
        self,
        robots: Sequence[EmulatedRobot],
        journal: Journal,
        *,
        interval_s: float,
        burst_episodes: int,
        pictures: int,
    ) -> None:
        """Prepare.

        Args:
            robots: share what follows.
            journal: what they spool is written down in.
            interval_s: between two episodes of one robot.
            burst_episodes: that each robot adds in a burst.
            pictures: of an episode.
        """
        self._robots = robots
        self._journal = journal
        self._interval_s = interval_s
        self._burst_episodes = burst_episodes
        self._source = EpisodeSource(pictures)
        self._spooled = self._full = self._bursts = 0
        self.must_burst = threading.Event()
        """Set it to have every robot spool a burst, and hold back all it has."""
        self.may_deliver = threading.Event()
        """Set it to have what is held back delivered."""

    def connect(self) -> None:
        """Have every robot connect and deliver what it has."""
        for robot in self._robots:
            robot.start()

    def burst(self) -> None:
        """Spool a burst that is held back, and count from now on whom the learner has reached."""
        for robot in self._robots:
            robot.outbox.hold_back()
        for robot in self._robots:
            for _ in range(self._burst_episodes):
                self._spool(robot)
        self._bursts += 1

    def deliver(self) -> None:
        """Let go what a burst held back."""
        for robot in self._robots:
            robot.outbox.is_held_back = False
        for robot in self._robots:
            robot.notify()

    def run(self, stopping: threading.Event) -> None:
        """Spool episodes, every robot in its turn, until ``stopping`` is set."""
        began_s = monotonic()
        spread_s = self._interval_s / len(self._robots)
        due = [(began_s + index * spread_s, index) for index in range(len(self._robots))]
        while not stopping.wait(min(LOOK_EVERY_S, max(0.0, due[0][0] - monotonic()))):
            self._do_as_told()
            due_s, index = due[0]
            if due_s > monotonic():
                continue
            self._spool(self._robots[index])
            # After a pause of the whole process robots go on; they do not catch up.
            heapq.heapreplace(due, (max(due_s + self._interval_s, monotonic()), index))

    def figures(self) -> Figures:
        """Return how it stands; the latencies are those since the last call."""
        stats = [robot.stats for robot in self._robots]
        latencies_s = [one for robot in self._robots for one in robot.outbox.take_latencies_s()]
        troubles = [f"{robot.name}: {robot.trouble}" for robot in self._robots if robot.trouble]
        return Figures(
            at_s=monotonic(),
            process_id=os.getpid(),
            robots=len(self._robots),
            welcome=sum(one.is_welcome for one in stats),
            reached=sum(robot.outbox.is_reached for robot in self._robots),
            spooled=self._spooled,
            acked=sum(one.acked_episodes for one in stats),
            full=self._full,
            bursts=self._bursts,
            latencies_ms=[round(1e3 * one, 2) for one in latencies_s],
            release_version=min((robot.release_version for robot in self._robots), default=0),
            trouble=troubles[0] if troubles else "",
        )

    def close(self, deadline_s: float) -> bool:
        """Deliver what is spooled; return True when nothing is left over."""
        end_s = monotonic() + deadline_s
        return all([robot.close(max(0.0, end_s - monotonic())) for robot in self._robots])

    def _do_as_told(self) -> None:
        if self.must_burst.is_set():
            self.must_burst.clear()
            self.burst()
        if self.may_deliver.is_set():
            self.may_deliver.clear()
            self.deliver()

    def _spool(self, robot: EmulatedRobot) -> None:
        record = self._source.record(robot.name)
        named = digest(record)
        self._journal.intends(robot.name, named)
        try:
            sequence = robot.spool(record)
        except OutboxFullError:
            self._full += 1
            return
        self._journal.spooled(robot.name, robot.outbox.spool_id, sequence, named)
        self._spooled += 1


def write_figures(fleet: EmulatedFleet, path: Path, ended: threading.Event) -> None:
    """Append a line of figures twice a second until ``ended`` is set, and a last one then."""
    with path.open("a") as file:
        while True:
            is_last = ended.wait(FIGURES_EVERY_S)
            file.write(json.dumps(asdict(fleet.figures())) + "\n")
            file.flush()
            if is_last:
                return


def make_room_for(robots: int) -> None:
    """Let this process open what so many robots need."""
    needed = DESCRIPTORS_PER_ROBOT * robots + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY not in (soft, hard) and hard < needed:
        sys.exit(
            f"{robots} robots in one process need {needed} descriptors, but this system allows "
            f"{hard}: raise 'ulimit -Hn', or spread the robots over more processes"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    sockets = max(1023, SOCKETS_PER_ROBOT * robots + 64)
    zmq.Context.instance().set(zmq.MAX_SOCKETS, sockets)


def wait_for(file: Path, stopping: threading.Event) -> None:
    """Wait until a file is there."""
    while not file.exists() and not stopping.wait(0.02):
        pass


def main() -> None:
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    stopping, ended = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    make_room_for(len(arguments.names))
    robots = [
        EmulatedRobot(
            Bundle(folder=arguments.robots / name),
            OutboxConfig(max_bytes=arguments.outbox_bytes),
            fetches_releases=arguments.releases,
        )
        for name in arguments.names
    ]
    with ExitStack() as parts:
        journal = parts.enter_context(Journal(arguments.journal))
        fleet = EmulatedFleet(
            robots,
            journal,
            interval_s=arguments.interval_s,
            burst_episodes=arguments.burst,
            pictures=arguments.pictures,
        )
        signal.signal(signal.SIGUSR1, lambda *_: fleet.must_burst.set())
        signal.signal(signal.SIGUSR2, lambda *_: fleet.may_deliver.set())
        figures = arguments.journal.with_suffix(".figures.jsonl")
        writer = threading.Thread(target=write_figures, args=(fleet, figures, ended))
        writer.start()
        if arguments.go is not None:
            fleet.burst()
            wait_for(arguments.go, stopping)
            fleet.deliver()
        fleet.connect()
        fleet.run(stopping)
        is_drained = fleet.close(DRAIN_S)
        ended.set()
        writer.join()
    sys.exit(0 if is_drained else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("robots", type=Path, help="folder with one enrolled bundle per robot")
    parser.add_argument("--names", nargs="+", required=True, help="which of the bundles to run")
    parser.add_argument("--journal", type=Path, required=True, help="appended to; see journal.py")
    parser.add_argument(
        "--interval-s", type=float, default=1.0, help="between two episodes of one robot"
    )
    parser.add_argument("--outbox-bytes", type=int, default=2_000_000_000, help="of each robot")
    parser.add_argument("--pictures", type=int, default=6, help="of an episode (6)")
    parser.add_argument("--burst", type=int, default=1, help="episodes per robot in a burst (1)")
    parser.add_argument(
        "--go", type=Path, help="spool a burst first, and connect once this file is there"
    )
    parser.add_argument(
        "--releases", action="store_true", help="fetch and load every release, as an agent does"
    )
    return parser


if __name__ == "__main__":
    main()
