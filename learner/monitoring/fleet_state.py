"""The fleet as it is now: who was heard when, what runs where, how long a release took."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import msgspec

from learner.monitoring.buckets import Buckets
from learner.store.ledger import RobotLedger
from protocol.messages import STARTING, Heartbeat, RobotStatus
from protocol.refusal_log import printable

LIVE_S = 5.0
"""A robot that was heard within this time is connected."""
_GIVE_UP_EVERY_S = 1.0
"""How often rollouts are searched for robots that fell silent: every heartbeat would take long."""
_KEPT_LATENCIES = 1000
_ROLLOUT_MS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000)
_MOST_ROLLOUTS = 20
"""Releases whose way to the robots is measured at a time."""
_WARNINGS_BYTES = 2048
"""Of one robot in a status, together: see MAX_STATUS_BYTES."""
_NAME_CHARS = 64
"""Of a digest or a version in a status; no honest robot has longer ones."""
_REMEMBER_REFUSAL_S = 60.0
"""How long a robot's status says why it was refused last."""


@dataclass(kw_only=True, slots=True)
class _Robot:
    """What is known of one robot since the gateway began."""

    last_seen_s: float = -math.inf
    heartbeat: Heartbeat | None = None
    refused: Counter[str] = field(default_factory=Counter)
    """Messages, by code."""
    refusal: str = ""
    """Why it was refused last, in words."""
    refused_s: float = -math.inf
    wire_version: int = 0
    software_version: str = ""
    address: str = ""


class RobotView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of one robot at one moment."""

    silent_s: float
    """Since it was heard last; infinity when it was not since the gateway began."""
    heartbeat: Heartbeat | None
    refused: dict[str, int]
    """Messages, by code."""
    is_pinned: bool
    """An operator has pinned it, or the fleet."""
    address: str

    @property
    def is_live(self) -> bool:
        """It is connected, as far as can be known."""
        return self.silent_s <= LIVE_S


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetView:
    """What is known of all robots at one moment."""

    robots: dict[str, RobotView]
    """Those that were heard, or refused, since the gateway began."""
    refusals: dict[str, int]
    """Messages, by code; also of keys that are not enrolled."""
    releases_published: int
    rollout_ms: Buckets
    """How long each release took to the last live robot."""
    uptime_s: float


@dataclass(kw_only=True, slots=True)
class _Rollout:
    """A release on its way to the robots that were live when it was published."""

    version: int
    published_s: float
    last_use_s: float | None = None
    """When the newest of the robots that use it by now was heard to."""
    waiting: set[str] = field(default_factory=set)


class FleetState:
    """What heartbeats and refusals tell of every robot. Any thread may call any method."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._robots: dict[str, _Robot] = {}
        self._rollouts: list[_Rollout] = []
        self._given_up_s = -math.inf
        """When rollouts were last searched for silent robots."""
        self._latencies_ms: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._rollout_ms = Buckets(_ROLLOUT_MS)
        self._refusals: Counter[str] = Counter()
        self._pinned: frozenset[str] = frozenset()
        self._began_s = clock()
        self._releases = 0
        self._release_version = 0

    def seen(self, robot_id: str) -> None:
        """Note that an authenticated message came."""
        with self._lock:
            self._robot(robot_id).last_seen_s = self._clock()

    def greeted(
        self, robot_id: str, *, wire_version: int, software_version: str, address: str
    ) -> None:
        """Note a robot's hello that was welcome."""
        with self._lock:
            robot = self._robot(robot_id)
            robot.last_seen_s = self._clock()
            robot.wire_version = wire_version
            robot.software_version = printable(software_version)[:_NAME_CHARS]
            robot.address = address

    def beat(self, robot_id: str, heartbeat: Heartbeat) -> None:
        """Note a heartbeat, and whether it completes a release's way to the fleet."""
        with self._lock:
            robot = self._robot(robot_id)
            robot.last_seen_s = self._clock()
            robot.heartbeat = heartbeat
            completed = False
            for rollout in self._rollouts:
                if robot_id in rollout.waiting and heartbeat.release_version >= rollout.version:
                    rollout.waiting.remove(robot_id)
                    rollout.last_use_s = robot.last_seen_s
                    completed = completed or not rollout.waiting
            if robot.last_seen_s - self._given_up_s >= _GIVE_UP_EVERY_S:
                self._give_up_on_silent(robot.last_seen_s)
                completed = True
            if completed:
                self._close_rollouts()

    def refuse(self, robot_id: str | None, code: str, reason: str = "") -> None:
        """Count a refused message; ``robot_id`` is None when its key is not enrolled.

        A ``reason`` is shown in the robot's status for a while.
        """
        with self._lock:
            self._refusals[code] += 1
            if robot_id is None:
                return
            robot = self._robot(robot_id)
            robot.refused[code] += 1
            if reason:
                robot.refusal, robot.refused_s = printable(reason), self._clock()

    def release_published(self, version: int, pinned: Collection[str] = ()) -> None:
        """Start measuring how long a release takes to the last live robot.

        One whose agent is still starting takes none yet, and is not waited for.

        Args:
            version: of the release.
            pinned: robots that shall not use it, and are not waited for; "" for all of them.
        """
        with self._lock:
            self._releases += 1
            self._release_version = version
            self._pinned = frozenset(pinned)
            now_s = self._clock()
            live = {
                name
                for name, robot in self._robots.items()
                if self._is_live(name, now_s)
                and (robot.heartbeat is None or robot.heartbeat.mode != STARTING)
            }
            waiting = set() if "" in pinned else live.difference(pinned)
            if waiting:
                self._rollouts.append(_Rollout(version=version, published_s=now_s, waiting=waiting))
                # One that was pinned only afterwards, or refuses the release, would never be done.
                del self._rollouts[:-_MOST_ROLLOUTS]

    def note_release(self, version: int) -> None:
        """Take which release is there; a gateway that was started anew missed how it came."""
        with self._lock:
            # What the trainer said before it published the newest may come after that.
            self._release_version = max(self._release_version, version)

    def note_pins(self, pinned: Collection[str]) -> None:
        """Take which robots are pinned now; "" for all of them."""
        with self._lock:
            self._pinned = frozenset(pinned)

    @property
    def release_version(self) -> int:
        """The newest release; 0 before the first."""
        return self._release_version

    @property
    def releases_published(self) -> int:
        """Releases since the gateway began."""
        return self._releases

    def release_latencies_ms(self) -> list[float]:
        """Return, per release, the time until the last live robot used it or a newer one."""
        with self._lock:
            return list(self._latencies_ms)

    def refusals(self) -> dict[str, int]:
        """Return how many messages were refused, by code."""
        with self._lock:
            return dict(self._refusals)

    def view(self) -> FleetView:
        """Return what is known of everyone, all of it as it is at one moment."""
        with self._lock:
            now_s = self._clock()
            everyone_pinned = "" in self._pinned
            return FleetView(
                robots={
                    name: RobotView(
                        silent_s=now_s - robot.last_seen_s,
                        heartbeat=robot.heartbeat,
                        refused=dict(robot.refused),
                        is_pinned=everyone_pinned or name in self._pinned,
                        address=robot.address,
                    )
                    for name, robot in self._robots.items()
                },
                refusals=dict(self._refusals),
                releases_published=self._releases,
                rollout_ms=self._rollout_ms.copy(),
                uptime_s=now_s - self._began_s,
            )

    def status_of(self, robot_id: str, ledger: RobotLedger) -> RobotStatus:
        """Put together what is stored of a robot and what was heard of it."""
        with self._lock:
            robot = self._robots.get(robot_id, _Robot())
            now_s = self._clock()
        silent_s = now_s - robot.last_seen_s
        beat = robot.heartbeat
        warnings = [printable(warning) for warning in beat.warnings] if beat else []
        if now_s - robot.refused_s <= _REMEMBER_REFUSAL_S:
            # First: what the robot itself says must not crowd it out.
            warnings.insert(0, robot.refusal)
        return RobotStatus(
            robot_id=robot_id,
            last_seen_s=silent_s if math.isfinite(silent_s) else -1.0,
            connected=silent_s <= LIVE_S,
            release_version=beat.release_version if beat else 0,
            attempts=ledger.attempts,
            successes=ledger.successes,
            recent=ledger.recent,
            stored=ledger.stored,
            missing=ledger.missing,
            tombstoned=ledger.tombstoned,
            duplicates=ledger.duplicates,
            conflicts=ledger.conflicts,
            refused=robot.refused.total(),
            outbox_episodes=beat.outbox_episodes if beat else 0,
            outbox_bytes=beat.outbox_bytes if beat else 0,
            decision_ms_p50=beat.decision_ms_p50 if beat else 0.0,
            decision_ms_p99=beat.decision_ms_p99 if beat else 0.0,
            warnings=_cut(warnings, _WARNINGS_BYTES),
            policy_digest=beat.policy_digest[:_NAME_CHARS] if beat else "",
            wire_version=robot.wire_version,
            software_version=robot.software_version,
            address=robot.address,
            health=beat.health if beat else None,
        )

    def _robot(self, robot_id: str) -> _Robot:
        robot = self._robots.get(robot_id)
        if robot is None:
            robot = self._robots[robot_id] = _Robot()
        return robot

    def _is_live(self, robot_id: str, now_s: float) -> bool:
        return now_s - self._robots[robot_id].last_seen_s <= LIVE_S

    def _give_up_on_silent(self, now_s: float) -> None:
        self._given_up_s = now_s
        for rollout in self._rollouts:
            rollout.waiting = {name for name in rollout.waiting if self._is_live(name, now_s)}

    def _close_rollouts(self) -> None:
        for rollout in self._rollouts:
            if not rollout.waiting and rollout.last_use_s is not None:
                taken_ms = (rollout.last_use_s - rollout.published_s) * 1e3
                self._latencies_ms.append(taken_ms)
                self._rollout_ms.add([taken_ms])
        self._rollouts = [rollout for rollout in self._rollouts if rollout.waiting]


def _cut(warnings: list[str], limit_bytes: int) -> list[str]:
    """Return the first warnings that fit within ``limit_bytes`` of UTF-8, the last one cut."""
    kept: list[str] = []
    for warning in warnings:
        text = warning.encode()[:limit_bytes].decode(errors="ignore")
        if not text:
            break
        kept.append(text)
        limit_bytes -= len(text.encode())
    return kept
