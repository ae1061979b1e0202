"""What is done to the fleet, and how one sees from outside that it has recovered."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic

from tests.chaos.emulated_group import EmulatedGroup
from tests.chaos.fleet_under_fire import FleetUnderFire
from tests.chaos.learner_processes import CONTROL, GATEWAY, RAYLET, RELEASES, TRAINER
from tests.chaos.release_probe import ReleaseProbe
from tests.chaos.service import Service


class Kind(StrEnum):
    """What is struck, always by SIGKILL except for PAUSE."""

    EMULATED = "emulated agents, one process"
    EVERY_EMULATED = "emulated agents, all at once"
    AGENT = "robot-agent"
    GATEWAY = "gateway actor"
    TRAINER = "trainer actor"
    RELEASES = "release server actor"
    CONTROL = "Ray head: gcs_server"
    RAYLET = "Ray head: raylet"
    DRIVER = "learner driver"
    PAUSE = "gateway stopped (SIGSTOP)"


ENDS_THE_LEARNER = {Kind.CONTROL, Kind.RAYLET, Kind.DRIVER}
_PARTS = {Kind.TRAINER: TRAINER, Kind.RELEASES: RELEASES, Kind.GATEWAY: GATEWAY}
_HEADS = {Kind.CONTROL: CONTROL, Kind.RAYLET: RAYLET}


@dataclass(kw_only=True, slots=True)
class Strike:
    """One blow, and what became of it."""

    kind: Kind
    targets: frozenset[str]
    """Names of what was struck: a service, or a part of the learner."""
    victims: tuple[int, ...]
    """Process ids."""
    is_over: Callable[[], bool]
    """True once what was struck serves again."""
    began_s: float = field(default_factory=monotonic)
    recovered_after_s: float | None = None
    overtaken_by: Kind | None = None
    """A later strike made it impossible to tell when this one was over."""
    note: str = ""

    @property
    def is_pending(self) -> bool:
        return self.recovered_after_s is None and self.overtaken_by is None

    def is_overtaken_by(self, other: Strike) -> bool:
        """Say whether ``other`` takes away what this one needs to recover, or strikes it again."""
        if other.kind in ENDS_THE_LEARNER or self.targets & other.targets:
            return True
        return GATEWAY in other.targets and self.kind not in (Kind.TRAINER, Kind.RELEASES)

    def look(self) -> None:
        """Note when it is over."""
        if self.is_pending and self.is_over():
            self.recovered_after_s = monotonic() - self.began_s


class Striker:
    """Strikes a fleet. What cannot be struck now, because it is not there, is left alone."""

    def __init__(self, fleet: FleetUnderFire, probe: ReleaseProbe) -> None:
        self._fleet = fleet
        self._probe = probe
        self._written_before_pause = 0

    def strike(self, kind: Kind, choice: int) -> Strike | None:
        """Strike one of this kind; ``choice`` selects among several. None when there is none."""
        fleet = self._fleet
        if kind is Kind.EMULATED:
            return self._kill_groups(kind, [fleet.groups[choice % len(fleet.groups)]])
        if kind is Kind.EVERY_EMULATED:
            return self._kill_groups(kind, fleet.groups)
        if kind is Kind.AGENT:
            return self._kill_agent(fleet.agents[choice % len(fleet.agents)])
        if kind is Kind.DRIVER:
            return self._kill_learner(kind, fleet.learner.process_id)
        victim = fleet.part(_HEADS.get(kind) or _PARTS.get(kind) or GATEWAY)
        if victim is None:
            return None
        if kind in _HEADS:
            return self._kill_learner(kind, victim.pid)
        if kind is Kind.PAUSE:
            return self._pause(victim.pid)
        return self._kill_part(kind, victim.pid)

    def resume(self, paused: Strike) -> None:
        """End a pause: the time until episodes are acked again is counted from now."""
        acked, stopped_s = self._fleet.acked, monotonic() - paused.began_s
        meanwhile = self._fleet.written_by_agents() - self._written_before_pause
        for victim in paused.victims:
            os.kill(victim, signal.SIGCONT)
        paused.is_over = lambda: self._fleet.acked > acked
        paused.note = f"{stopped_s:.1f} s; robot-agents made {meanwhile} attempts meanwhile"
        paused.began_s = monotonic()

    def _kill_groups(self, kind: Kind, groups: list[EmulatedGroup]) -> Strike | None:
        victims = [group for group in groups if group.service.running]
        if not victims:
            return None
        ids = tuple(group.service.process_id for group in victims)
        for group in victims:
            group.service.kill()
        return Strike(
            kind=kind,
            targets=frozenset(group.service.name for group in victims),
            victims=ids,
            is_over=lambda: all(group.is_welcome for group in victims),
        )

    def _kill_agent(self, agent: Service) -> Strike | None:
        if not agent.running:
            return None
        victim = agent.process_id
        agent.kill()
        acked = self._fleet.acked_by(agent.name)
        return Strike(
            kind=Kind.AGENT,
            targets=frozenset({agent.name}),
            victims=(victim,),
            is_over=lambda: self._fleet.acked_by(agent.name) > acked,
        )

    def _kill_part(self, kind: Kind, victim: int) -> Strike:
        signs = {
            Kind.GATEWAY: lambda: self._fleet.acked,
            Kind.TRAINER: self._metrics_bytes,
            Kind.RELEASES: lambda: self._probe.answers,
        }
        part = _PARTS[kind]
        is_over = self._serves_anew(part, victim, signs[kind])
        os.kill(victim, signal.SIGKILL)
        return Strike(kind=kind, targets=frozenset({part}), victims=(victim,), is_over=is_over)

    def _kill_learner(self, kind: Kind, victim: int) -> Strike | None:
        gateway = self._fleet.part(GATEWAY)
        if gateway is None or not self._fleet.learner.running:
            return None
        is_over = self._serves_anew(GATEWAY, gateway.pid, lambda: self._fleet.acked)
        os.kill(victim, signal.SIGKILL)
        return Strike(kind=kind, targets=frozenset({GATEWAY}), victims=(victim,), is_over=is_over)

    def _pause(self, victim: int) -> Strike:
        os.kill(victim, signal.SIGSTOP)
        self._written_before_pause = self._fleet.written_by_agents()
        return Strike(
            kind=Kind.PAUSE,
            targets=frozenset({GATEWAY}),
            victims=(victim,),
            is_over=lambda: False,
        )

    def _serves_anew(self, part: str, victim: int, sign: Callable[[], int]) -> Callable[[], bool]:
        """Return what tells that another process than ``victim`` does the part's work.

        Its work is counted from when that process is seen: acks that the old one had sent may
        arrive after its end.
        """
        at_first: dict[int, int] = {}

        def is_over() -> bool:
            process = self._fleet.part(part)
            if process is None or process.pid == victim:
                return False
            return sign() > at_first.setdefault(process.pid, sign())

        return is_over

    def _metrics_bytes(self) -> int:
        path = self._fleet.folder.learner / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0
