"""A learner, real agents and emulated ones as processes that come back when they are killed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from fleet.enrolment import enrol_robot
from fleet.fleet_files import FleetPlan, prepare_run_folder, robot_name
from fleet.operator import learner_address
from fleet.run_folder import RunFolder
from protocol.errors import ConfigurationError
from protocol.registry import Registry
from robot_agent.delivery.outbox import outbox_counts
from tests.chaos.emulated_group import EmulatedGroup
from tests.chaos.independent_reader import Comparison, compare, read_store
from tests.chaos.journal import read_journals
from tests.chaos.learner_processes import ACTORS, GATEWAY, LearnerProcesses
from tests.chaos.service import Service

LIGHT_TRAINING: Mapping[str, Any] = {
    "releases": {"interval_s": 5.0},
    "training": {
        "batch_size": 32,
        "max_visits": 1.0,
        "first_after_attempts": 20,
        "checkpoint_interval_s": 10.0,
    },
}
"""Laid over learner.toml: trains and releases all the time, and leaves the cores to the others."""
AGENTS_NICENESS = 10
"""Simulated robots grasp as fast as they are let; they shall not slow the learner down."""
END_S = 180.0
ENROLLED_AT_ONCE = 16
TICK_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class FirePlan:
    """How large the fleet is and what it does."""

    agents: int = 2
    """Real ``robot-agent`` processes with a simulated robot."""
    groups: int = 2
    """Processes of emulated robots."""
    robots_per_group: int = 5
    interval_s: float = 1.0
    """Between two episodes of one emulated robot."""
    seed: int = 0
    group_options: tuple[str, ...] = ()
    """Further arguments of the emulated robots' program."""
    gateway_alone: bool = False
    """No Ray: the gateway in a process of its own, and no trainer."""
    releases_alone: bool = False
    """The release server in a process of its own, too; only with ``gateway_alone``."""
    learner_options: Mapping[str, Any] = field(default_factory=lambda: LIGHT_TRAINING)


class FleetUnderFire:
    """To be used as a context: leaving it ends every process that it ever started."""

    def __init__(self, folder: Path, plan: FirePlan) -> None:
        """Make keys and configurations; nothing starts yet."""
        self.plan = plan
        self.folder = RunFolder(root=folder.resolve())
        prepare_run_folder(
            self.folder,
            FleetPlan(robots=plan.agents, seed=plan.seed, learner_options=plan.learner_options),
        )
        module = "tests.chaos.gateway_alone" if plan.gateway_alone else "learner"
        self.learner = Service(
            "learner",
            ["-m", module, "--config", str(self.folder.learner_config)],
            log=self.folder.logs / "learner.log",
        )
        self.release_server = Service(
            "releases",
            [
                *("-m", "tests.integration.release_server_alone"),
                *("--config", str(self.folder.learner_config)),
            ],
            log=self.folder.logs / "releases.log",
        )
        self.agents = [self._agent(robot_name(index)) for index in range(plan.agents)]
        self.groups = [self._group(index) for index in range(plan.groups)]
        self.generations: list[LearnerProcesses] = []
        """One entry per driver that was started."""

    def __enter__(self) -> FleetUnderFire:
        for service in self.services:
            service.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.tend()
        for service in self.services:
            service.end_at_once()
        # Ray's own agents would linger for a minute after their head.
        for generation in self.generations:
            for process in generation.alive():
                process.kill()

    @property
    def services(self) -> list[Service]:
        return [*self._learners, *self.agents, *(group.service for group in self.groups)]

    @property
    def _learners(self) -> list[Service]:
        return [self.learner, *([self.release_server] if self.plan.releases_alone else [])]

    def tend(self) -> None:
        """Start what ended, take note of what is new."""
        for agent in self.agents:
            _be_nice(agent)
        for service in self.services:
            service.tend()
        if not self.generations or self.generations[-1].driver.pid != self.learner.process_id:
            driver = psutil.Process(self.learner.process_id)
            self.generations.append(LearnerProcesses(driver=driver))
        for generation in self.generations:
            generation.look()
        for group in self.groups:
            group.look()

    def wait(self, seconds: float) -> Iterator[None]:
        """Tend the fleet for so long; yields after every look, so that a caller may look too."""
        end_s = monotonic() + seconds
        while monotonic() < end_s:
            self.tend()
            yield
            sleep(TICK_S)

    def wait_until_delivering(self, within_s: float) -> None:
        """Wait until the learner is whole, every emulated robot welcome, every real one delivers.

        Raises:
            TimeoutError: with what is the matter.
        """
        for _ in self.wait(within_s):
            if self.is_delivering():
                return
        silent = [group.service.name for group in self.groups if not group.is_welcome]
        silent += [agent.name for agent in self.agents if not self.acked_by(agent.name)]
        troubles = [group.trouble for group in self.groups if group.trouble]
        silent += [] if self.is_whole() else ["learner"]
        raise TimeoutError(f"not delivering within {within_s:.0f} s: {silent}; {troubles}")

    def is_delivering(self) -> bool:
        return (
            self.is_whole()
            and all(group.is_welcome for group in self.groups)
            and all(self.acked_by(agent.name) for agent in self.agents)
        )

    def is_whole(self) -> bool:
        """Say whether every actor of the learner that runs now is there and made."""
        if self.plan.gateway_alone:
            return self.learner.running
        return bool(self.generations) and self.processes.parts().keys() >= ACTORS

    @property
    def processes(self) -> LearnerProcesses:
        """Of the driver that runs now."""
        return self.generations[-1]

    def part(self, name: str) -> psutil.Process | None:
        """Return a process of the learner that runs now; None while it is not there."""
        return self.processes.parts().get(name) if self.generations else None

    @property
    def acked(self) -> int:
        """Episodes of emulated robots acked so far."""
        return sum(group.acked for group in self.groups)

    def acked_by(self, robot: str) -> int:
        try:
            return outbox_counts(self.folder.robots / robot / "state").acked
        except ConfigurationError:
            return 0  # it has not made its outbox yet

    def written_by_agents(self) -> int:
        """Return how many episodes the real agents have spooled so far."""
        states = (self.folder.robots / agent.name / "state" for agent in self.agents)
        return sum(outbox_counts(state).written for state in states)

    def end(self) -> None:
        """Let the robots deliver what they have, then end the learner.

        Raises:
            AssertionError: something did not end as it should.
        """
        robots = [*self.agents, *(group.service for group in self.groups)]
        for service in robots:
            service.ask_to_end()
        self._await_end(robots)
        for service in self._learners:
            service.ask_to_end()
        self._await_end(self._learners)

    def _await_end(self, services: Sequence[Service]) -> None:
        for _ in self.wait(END_S):
            if not any(service.running for service in services):
                break
        statuses = {service.name: service.wait(0.0) for service in services}
        wrong = {name: status for name, status in statuses.items() if status != 0}
        assert not wrong, f"exit statuses within {END_S:.0f} s of SIGTERM (None: none): {wrong}"

    def comparison(self) -> Comparison:
        """Compare the store with what the robots say that they spooled; all must have ended."""
        robots = [path for path in self.folder.robots.iterdir() if _outbox_of(path).exists()]
        outboxes = {path.name: _outbox_of(path) for path in robots}
        journals = [group.journal for group in self.groups if group.journal.exists()]
        return compare(read_store(self.folder.store), outboxes, read_journals(journals))

    def gateway(self) -> psutil.Process | None:
        """Return the process that takes episodes; None while there is none."""
        if not self.plan.gateway_alone:
            return self.part(GATEWAY)
        return psutil.Process(self.learner.process_id) if self.learner.running else None

    def _agent(self, name: str) -> Service:
        arguments = ["-m", "robot_agent", "--config", str(self.folder.robot_config(name))]
        return Service(name, arguments, log=self.folder.logs / f"{name}.log")

    def _group(self, index: int) -> EmulatedGroup:
        names = [
            f"emulated-{index}-{number:03d}" for number in range(1, self.plan.robots_per_group + 1)
        ]
        registry = Registry(self.folder.registry)
        address = learner_address(self.folder, host=None)
        # Every file of a bundle is synced: hundreds one after the other would take minutes.
        with ThreadPoolExecutor(ENROLLED_AT_ONCE) as pool:
            bundles = [self.folder.robots / name for name in names]
            list(pool.map(lambda one: enrol_robot(registry, one.name, one, address), bundles))
        return EmulatedGroup(
            f"group-{index}",
            names,
            bundles=self.folder.robots,
            folder=self.folder.logs,
            interval_s=self.plan.interval_s,
            options=self.plan.group_options,
        )


def _be_nice(service: Service) -> None:
    if not service.running:
        return
    try:
        process = psutil.Process(service.process_id)
        if process.nice() < AGENTS_NICENESS:
            process.nice(AGENTS_NICENESS)
    except psutil.NoSuchProcess:
        return  # it is started again in a moment


def _outbox_of(robot: Path) -> Path:
    return robot / "state" / "outbox.sqlite3"
