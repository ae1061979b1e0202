"""Who hears of whom, and how old it is, while some gateways are silent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from learner.config import GatewayConfig
from learner.ingestion.exchange import INTERVAL_S, Exchange
from learner.ingestion.gateway import Gateway
from learner.ingestion.gateway_report import GatewayReport, HeardReport
from learner.ingestion.neighbours import GONE_AFTER_S, Neighbours
from learner.store.file import open_store_file
from learner.store.stored_episode import spool_prefix
from protocol.endpoint import is_endpoint
from tests.delivery_site import make_site
from tests.free_ports import free_port
from tests.learner.ingestion.test_neighbours import A, B, C, report
from tests.stored_records import SPOOL

D = "tcp://10.0.0.4:5701"


class Clock:
    """Goes on only where somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Place:
    """A gateway that answers a moment after it was asked, or never."""

    def __init__(self, endpoint: str, clock: Clock, *, is_there: bool) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._is_there = is_there
        self._asked_s = 0.0
        self.neighbours = Neighbours(clock=clock)

    def ask_report(self) -> None:
        self._asked_s = self._clock()

    def report(self, timeout_s: float) -> GatewayReport | None:
        answers_s = self._asked_s + 0.1 if self._is_there else float("inf")
        self._clock.now_s = max(self._clock(), min(answers_s, self._clock() + timeout_s))
        return report(self._endpoint, []) if self._clock() >= answers_s else None

    def hear(self, others: Sequence[HeardReport]) -> None:
        self.neighbours.hear(others)

    def kept_digests(
        self, robot_id: str, spool_id: bytes, sequences: Sequence[int]
    ) -> dict[int, bytes]:
        raise AssertionError("nothing is stored")

    def retire_copies(
        self, robot_id: str, spool_id: bytes, digests: Mapping[int, bytes]
    ) -> list[int]:
        raise AssertionError("nothing is stored")


@pytest.mark.parametrize("gone", [{1}, {1, 2}, {0, 1}])
def test_gateways_that_live_do_not_take_each_other_for_gone_beside_silent_ones(gone: set[int]):
    clock = Clock()
    places = [
        Place(endpoint, clock, is_there=at not in gone) for at, endpoint in enumerate([A, B, C, D])
    ]
    exchange = Exchange(places, [A, B, C, D], clock=clock)
    living = [one for at, one in enumerate(places) if at not in gone]
    exchange.step()
    for _ in range(5):
        clock.now_s += INTERVAL_S
        began_s = clock()
        exchange.step()
        heard_s, clock.now_s = clock(), clock() + INTERVAL_S
        for place in living:
            ages = [one.age_s for one in place.neighbours.reports() if not one.report.is_unheard]
            assert len(ages) == len(living) - 1
            assert max(ages) <= GONE_AFTER_S - 2 * INTERVAL_S
        clock.now_s = heard_s
        assert heard_s - began_s < INTERVAL_S


def test_a_gateway_with_a_damaged_ledger_still_reports_and_says_the_damage(tmp_path: Path):
    site = make_site(tmp_path)
    site.enrol("arm")
    file = open_store_file(site.store, max_bytes=10**8, readonly=False)
    with file.environment.begin(write=True) as transaction:
        transaction.put(spool_prefix("arm", SPOOL), b"\xc1rotten", db=file.spools)
    file.close()
    with site.running_gateway() as gateway:
        told = gateway.report()
        assert told.holdings == {}
        assert "damaged" in " ".join(told.status.warnings)
        gateway.hear([HeardReport(report=report(B, []), age_s=0.0)])
        assert any("damaged" in one for one in gateway.status().warnings)


def test_a_node_with_an_ipv6_address_is_advertised_as_an_endpoint(tmp_path: Path):
    site = make_site(tmp_path)
    config = GatewayConfig(bind=f"tcp://0.0.0.0:{free_port()}", store=site.store)
    gateway = Gateway(
        config, tmp_path / "keys" / "learner.secret", tmp_path / "registry", host="fd00::1"
    )
    gateway.start()
    assert gateway.advertised.startswith("tcp://[fd00::1]:")
    assert is_endpoint(gateway.advertised)
    gateway.stop()
