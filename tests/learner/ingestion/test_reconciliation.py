"""What goes of two copies, when, and what never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from learner.ingestion.gateway_report import GatewayReport
from learner.ingestion.reconciliation import Reconciliation
from learner.store.episode_store import EpisodeStore
from tests.learner.ingestion.test_neighbours import A, B, report
from tests.stored_records import arrival, everything

COUNT = 10


def told(endpoint: str, store: EpisodeStore) -> GatewayReport:
    found = report(endpoint, [], holdings=store.holdings())
    return GatewayReport(
        endpoint=found.endpoint,
        store_id=store.store_id(),
        status=found.status,
        sessions={},
        holdings=found.holdings,
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
