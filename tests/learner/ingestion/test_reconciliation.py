"""What goes of two copies, when, and what never does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from learner.ingestion.gateway_report import GatewayReport
from learner.ingestion.reconciliation import AT_ONCE, STEP_S, Reconciliation
from learner.store.episode_store import EpisodeStore
from learner.store.holdings import SpoolHoldings
from learner.store.sequence_set import SequenceSet
from tests.learner.ingestion.test_neighbours import A, B, report
from tests.stored_records import SPOOL, arrival, everything

COUNT = 10


class SlowHolder:
    """A store that takes a step's whole time for each question."""

    def __init__(self, count: int, clock: list[float]) -> None:
        self.kept = {sequence: b"the same" for sequence in range(1, count + 1)}
        self.asked = 0
        self._clock = clock

    def kept_digests(
        self, robot_id: str, spool_id: bytes, sequences: Sequence[int]
    ) -> dict[int, bytes]:
        self.asked += 1
        self._clock[0] += STEP_S
        return {one: self.kept[one] for one in sequences if one in self.kept}

    def retire_copies(
        self, robot_id: str, spool_id: bytes, digests: Mapping[int, bytes]
    ) -> list[int]:
        for one in digests:
            del self.kept[one]
        return list(digests)


def told(endpoint: str, store: EpisodeStore) -> GatewayReport:
    found = report(endpoint, [], holdings=store.holdings())
    return GatewayReport(
        endpoint=found.endpoint,
        store_id=store.store_id(),
        status=found.status,
        sessions={},
        holdings=found.holdings,
        stops={},
    )


def test_two_gateways_with_one_store_lose_nothing_and_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    store = EpisodeStore(tmp_path, 10**8)
    for sequence in range(1, COUNT + 1):
        store.commit([arrival(sequence)])
    reconciliation = Reconciliation([store, store])
    for _ in range(3):
        reconciliation.step({0: told(A, store), 1: told(B, store)})
    assert len(everything(store)) == COUNT
    assert store.ledger("arm").retired == 0
    assert caplog.text.count("have one store") == 1
    store.close()


def test_many_copies_go_piece_by_piece_and_reports_are_heard_in_between():
    count = 10 * AT_ONCE
    shared = {"arm": {SPOOL: SpoolHoldings(stored=SequenceSet([range(1, count + 1)]))}}
    reports = {at: report(one, [], holdings=shared) for at, one in enumerate((A, B))}
    clock = [0.0]
    first, second = SlowHolder(count, clock), SlowHolder(count, clock)
    reconciliation = Reconciliation([first, second], clock=lambda: clock[0])
    for step in range(1, 11):
        reconciliation.step(reports)
        assert len(second.kept) == count - step * AT_ONCE
    assert len(first.kept) == count
    asked = first.asked
    reconciliation.step(reports)
    assert first.asked == asked
