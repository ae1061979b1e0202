"""Looks at the gateway's parts and says how everything is at one moment."""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Callable

import msgspec

from learner.config import GatewayConfig
from learner.ingestion.committer import Committer
from learner.monitoring.attempt_counts import AttemptCounts, RobotCounts
from learner.monitoring.drift_watch import DriftWatch
from learner.monitoring.fleet_snapshot import FleetSnapshot, RobotSnapshot, StoreSnapshot
from learner.monitoring.fleet_state import FleetState, RobotView
from learner.monitoring.lately import Lately
from learner.monitoring.training_report import TrainingReport
from learner.store.episode_store import EpisodeStore
from learner.store.ledger import EMPTY_LEDGER, StoreAccount
from protocol.limits import MAX_QUEUED_BYTES
from protocol.messages import LearnerCondition
from protocol.registry import Registry

REPORT_HOLDS_S = 60.0
"""What the trainer said is exported for so long; what was long ago would mislead."""
_UNHEARD = RobotView(silent_s=math.inf, heartbeat=None, refused={}, is_pinned=False, address="")


class FleetObserver:
    """Any thread may ask."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        registry: Registry,
        store: EpisodeStore,
        fleet: FleetState,
        committer: Committer,
        attempts: AttemptCounts,
        drift: DriftWatch,
        refusals: Callable[[], dict[str, int]],
        missing: Callable[[], dict[str, int]],
    ) -> None:
        """Prepare to look.

        Args:
            config: of the gateway.
            registry: who belongs to the fleet.
            store: what was delivered.
            fleet: what heartbeats tell.
            committer: what goes through.
            attempts: what stored attempts tell.
            drift: which robots left their past.
            refusals: counts messages and handshakes of everyone that were refused, by reason.
            missing: counts the sequences that are in no gateway's store, of each robot that has
                delivered to several.
        """
        self._config = config
        self._registry = registry
        self._store = store
        self._fleet = fleet
        self._committer = committer
        self._attempts = attempts
        self._drift = drift
        self._refusals = refusals
        self._missing = missing
        self._lock = threading.Lock()
        self._report: tuple[TrainingReport, float] | None = None
        """With when it came, by the monotonic clock."""
        self._moved_s = -math.inf
        """When the trainer last made a step or had nothing to learn from."""
        self._lately = Lately()

    def note_training(self, report: TrainingReport) -> None:
        """Take what the trainer says of itself."""
        now_s = time.monotonic()
        with self._lock:
            last = self._report[0] if self._report is not None else None
            if last is None or report.is_waiting or report.steps != last.steps:
                self._moved_s = now_s
            self._report = (report, now_s)

    def sample(self) -> None:
        """Note what is looked at over minutes; to be called every few seconds."""
        self._lately.take(self._committer.queued_bytes, self._refusals())

    def condition(self) -> LearnerCondition:
        """Return how this gateway and its store are, and what was heard of training."""
        disk = shutil.disk_usage(self._config.store)
        now_s = time.monotonic()
        with self._lock:
            found, moved_s = self._report, self._moved_s
        return LearnerCondition(
            store_bytes=self._store.size_bytes(),
            store_limit_bytes=self._config.max_store_bytes,
            disk_free_bytes=disk.free,
            disk_size_bytes=disk.total,
            queued_bytes=self._lately.least_queued_bytes(),
            queue_limit_bytes=MAX_QUEUED_BYTES,
            keys_refused=self._lately.keys_refused(self._refusals()),
            trainer_silent_s=now_s - found[1] if found is not None else None,
            training_stalled_s=now_s - moved_s if found is not None else None,
            training_steps=found[0].steps if found is not None else 0,
        )

    def snapshot(self) -> FleetSnapshot:
        """Return how everything is now.

        Raises:
            ConfigurationError: the registry cannot be read.
        """
        now_s = time.time()
        members = [member.name for member in self._registry.members() if member.role == "robot"]
        store = self._look_at_store()
        view, attempts = self._fleet.view(), self._attempts.totals()
        drifts = self._drift.evidence()
        robots = []
        for name in members:
            robot = view.robots.get(name, _UNHEARD)
            ledger = store.account.robots.get(name)
            # Enrolled is not yet there; and who left is not there any more.
            is_known = name in view.robots or ledger is not None
            if not is_known or self._has_left(min(robot.silent_s, view.uptime_s)):
                continue
            robots.append(
                RobotSnapshot(
                    name=name,
                    ledger=ledger or (EMPTY_LEDGER if store.account.is_whole else None),
                    counts=attempts.robots.get(name) or RobotCounts(),
                    view=robot,
                    drift=drifts.get(name),
                    seen_at_s=round(now_s - robot.silent_s, 3)
                    if math.isfinite(robot.silent_s)
                    else None,
                )
            )
        training, trained_at_s = self._last_report(now_s)
        return FleetSnapshot(
            robots=robots,
            enrolled=len(members),
            view=view,
            refusals=self._refusals(),
            attempts=attempts,
            traffic=self._committer.traffic.totals(),
            queued_bytes=self._committer.queued_bytes,
            queue_limit_bytes=MAX_QUEUED_BYTES,
            store=store,
            training=training,
            trained_at_s=trained_at_s,
        )

    def _has_left(self, silent_s: float) -> bool:
        return silent_s > self._config.metrics.forget_after_s

    def _look_at_store(self) -> StoreSnapshot:
        disk = shutil.disk_usage(self._config.store)
        return StoreSnapshot(
            account=self._account(),
            size_bytes=self._store.size_bytes(),
            limit_bytes=self._config.max_store_bytes,
            disk_free_bytes=disk.free,
            disk_size_bytes=disk.total,
        )

    def _account(self) -> StoreAccount:
        """Return what the store holds; what another gateway's holds is not missing."""
        account = self._store.account()
        robots = account.robots
        for name, missing in self._missing().items():
            if name in robots:
                robots[name] = msgspec.structs.replace(robots[name], missing=missing)
        return account

    def _last_report(self, now_s: float) -> tuple[TrainingReport | None, float | None]:
        """Return what the trainer said last, unless that is too old, and when it did, UTC."""
        with self._lock:
            found = self._report
        if found is None:
            return None, None
        report, heard_s = found
        age_s = time.monotonic() - heard_s
        return report if age_s <= REPORT_HOLDS_S else None, round(now_s - age_s, 3)
