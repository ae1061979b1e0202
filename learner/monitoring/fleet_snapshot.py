"""Everything that is exported, as it was at one moment."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from learner.monitoring.attempt_counts import AttemptTotals, RobotCounts
from learner.monitoring.drift_watch import DriftEvidence
from learner.monitoring.fleet_state import FleetView, RobotView
from learner.monitoring.traffic import TrafficTotals
from learner.monitoring.training_report import TrainingReport
from learner.store.ledger import RobotLedger, StoreAccount


class RobotSnapshot(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One robot."""

    name: str
    ledger: RobotLedger | None
    """None when the store's account of it cannot be read."""
    counts: RobotCounts
    view: RobotView
    drift: DriftEvidence | None
    """None before its first attempt."""
    seen_at_s: float | None
    """UTC; None when it was not heard since the gateway began."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSnapshot:
    """The episode store and its disk."""

    account: StoreAccount
    size_bytes: int
    limit_bytes: int
    disk_free_bytes: int
    disk_size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetSnapshot:
    """The fleet and its learner."""

    robots: list[RobotSnapshot]
    """By name; those that have left are not among them."""
    enrolled: int
    view: FleetView
    refusals: dict[str, int]
    """Messages and handshakes of everyone, by reason."""
    attempts: AttemptTotals
    traffic: TrafficTotals
    queued_bytes: int
    queue_limit_bytes: int
    store: StoreSnapshot
    training: TrainingReport | None
    """What the trainer said last; None when it said nothing for too long."""
    trained_at_s: float | None
    """When it said something last, UTC; None before that."""
