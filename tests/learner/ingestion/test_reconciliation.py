"""What goes of two copies, when, and what never does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from learner.ingestion.gateway_report import GatewayReport
from learner.ingestion.reconciliation import AGAIN_S, AT_ONCE, STEP_S, Reconciliation
from learner.store.episode_store import EpisodeStore
from learner.store.holdings import SpoolHoldings
from learner.store.retention import RetentionLimits
from learner.store.sequence_set import SequenceSet
from tests.learner.ingestion.test_neighbours import A, B, report
from tests.stored_records import PAGE, SPOOL, arrival, data_file, everything

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


class Asked:
    """A store as a gateway shows it, whose committer retires old records between two questions."""

    def __init__(self, store: EpisodeStore) -> None:
        self.store = store
        self.read: list[int] = []

    def kept_digests(
        self, robot_id: str, spool_id: bytes, sequences: Sequence[int]
    ) -> dict[int, bytes]:
        self.read.extend(sequences)
        found = self.store.kept_digests(robot_id, spool_id, sequences)
        while self.store.retire_some():
            pass
        return found

    def retire_copies(
        self, robot_id: str, spool_id: bytes, digests: Mapping[int, bytes]
    ) -> list[int]:
        return self.store.retire_copies(robot_id, spool_id, digests)


class Stores:
    """Two stores of one fleet, and a clock that the test turns."""

    def __init__(self, folder: Path, keep: RetentionLimits) -> None:
        self.now_s = 0.0
        self.first = EpisodeStore(folder / "first", 10**8)
        self.second = EpisodeStore(folder / "second", 10**8, keep=keep)
        self.asked = [Asked(self.first), Asked(self.second)]
        self._reconciliation = Reconciliation(self.asked, clock=lambda: self.now_s)

    def step(self, *, after_s: float = 0.0) -> list[int]:
        """Settle; return what was read in the second store."""
        self.now_s += after_s
        self.asked[1].read.clear()
        self._reconciliation.step({0: told(A, self.first), 1: told(B, self.second)})
        return self.asked[1].read

    def kept(self) -> list[list[int]]:
        return [
            sorted(stored.key.sequence for stored in everything(store).values())
            for store in (self.first, self.second)
        ]


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


@pytest.fixture
def stores(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stores]:
    stores = Stores(tmp_path, getattr(request, "param", RetentionLimits()))
    yield stores
    stores.first.close()
    stores.second.close()


@pytest.mark.parametrize("stores", [RetentionLimits(log_bytes=60_000)], indirect=True)
def test_an_episode_that_one_store_retires_meanwhile_stays_in_the_other(stores: Stores):
    stores.first.commit([arrival(sequence) for sequence in range(1, 6)])
    stores.second.commit([arrival(sequence) for sequence in (1, 2, *range(6, 16))])
    stores.step()
    first, second = stores.kept()
    assert first == [1, 2, 3, 4, 5]
    assert not {1, 2} & {*second}


def test_a_copy_that_is_its_stores_newest_record_goes_once_a_newer_one_came(stores: Stores):
    stores.first.commit([arrival(sequence) for sequence in (1, 2, 3, 9)])
    stores.second.commit([arrival(sequence) for sequence in (2, 3)])
    assert stores.step() == [2, 3]
    assert stores.kept() == [[1, 2, 3, 9], [3]]
    assert stores.step(after_s=1.0) == [], "it is not read again every second"
    stores.second.commit([arrival(4)])
    assert stores.step(after_s=AGAIN_S) == [3]
    assert stores.kept() == [[1, 2, 3, 9], [4]]
    assert stores.step(after_s=AGAIN_S) == []


def test_copies_beside_damage_are_said_once_and_rest_while_others_go(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    count = 2 * AT_ONCE
    for store in (stores.first, stores.second):
        store.commit([arrival(one, record_bytes=1000) for one in range(1, count + 1)])
    stores.second.commit([arrival(count + 1)])
    data = data_file(tmp_path / "second")
    at = data.read_bytes().index(b"arm/7;arm/7;") // PAGE * PAGE
    with data.open("r+b") as file:
        file.seek(at)
        file.write(bytes(PAGE))
    reads = [len(stores.step(after_s=AGAIN_S / 10)) for _ in range(5)]
    assert reads == [AT_ONCE, AT_ONCE, 0, 0, 0]
    assert {*range(AT_ONCE + 1, count + 1)}.isdisjoint(stores.kept()[1])
    assert stores.kept()[0] == [*range(1, count + 1)]
    stores.step(after_s=AGAIN_S)
    assert caplog.text.count("stay in two stores") == 1


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
