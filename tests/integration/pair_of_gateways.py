"""Two gateways, each with a store of its own, and robots that move between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from learner.ingestion.exchange import Exchange
from learner.ingestion.gateway import Gateway
from learner.ingestion.gateway_report import GatewayReport, HeardReport
from protocol.codec import encode_episode
from robot_agent.delivery.outbox import Outbox
from robot_agent.delivery.uplink import Uplink
from tests.delivery_site import DeliverySite, make_site
from tests.episodes import make_episode
from tests.free_ports import free_port
from tests.peer import Peer
from tests.waiting import wait_until


@dataclass
class Seat:
    """One gateway's place: its port and its store outlive it."""

    site: DeliverySite
    endpoint: str
    store: Path
    gateway: Gateway | None = None

    def start(self, **changes: object) -> Gateway:
        self.gateway = self.site.gateway(bind=self.endpoint, store=self.store, **changes)
        self.gateway.start()
        return self.gateway

    def stop(self) -> None:
        if self.gateway is not None:
            self.gateway.stop()
            self.gateway = None

    def ask_report(self) -> None:
        """Nothing: it answers at once."""

    def report(self, timeout_s: float) -> GatewayReport | None:
        return self.gateway.report() if self.gateway is not None else None

    def hear(self, others: Sequence[HeardReport]) -> None:
        if self.gateway is not None:
            self.gateway.hear(others)

    def kept_digests(
        self, robot_id: str, spool_id: bytes, sequences: Sequence[int]
    ) -> dict[int, bytes]:
        assert self.gateway is not None
        return self.gateway.kept_digests(robot_id, spool_id, sequences)

    def retire_copies(
        self, robot_id: str, spool_id: bytes, digests: Mapping[int, bytes]
    ) -> list[int]:
        assert self.gateway is not None
        return self.gateway.retire_copies(robot_id, spool_id, digests)


class Pair:
    """Two gateways that know of each other once ``exchange`` was called."""

    def __init__(self, site: DeliverySite) -> None:
        self.site = site
        self.seats = [
            Seat(site, f"tcp://127.0.0.1:{free_port()}", site.folder / f"store-{number}")
            for number in range(2)
        ]
        self._exchange = Exchange(self.seats, ["first", "second"])

    @property
    def endpoints(self) -> list[str]:
        return [seat.endpoint for seat in self.seats]

    def exchange(self) -> None:
        self._exchange.step()

    def robot(self, name: str, at: Sequence[int] = (0,)) -> Robot:
        return Robot(self.site, name, [self.endpoints[place] for place in at])

    def peer(self, name: str, place: int) -> Peer:
        (self.site.folder / "endpoint").write_text(self.endpoints[place])
        return Peer(self.site, self.site.keys_of(name))


class Robot:
    """An outbox and its uplink."""

    def __init__(self, site: DeliverySite, name: str, gateways: Sequence[str]) -> None:
        self.name = name
        self._state_folder = site.outbox_folder(name)
        self.outbox: Outbox = site.outbox(name)
        self.uplink: Uplink = site.uplink(name, self.outbox, gateways=gateways)
        self.uplink.start()

    @property
    def written(self) -> int:
        return self.outbox.counts().written

    def put(self, count: int) -> None:
        for _ in range(count):
            seed = self.written + 1
            self.outbox.put(encode_episode(make_episode(self.name, seed)))
        self.uplink.notify()

    def knows(self, seat: Seat) -> bool:
        """Say whether it has kept that this gateway is there."""
        kept = self._state_folder / "gateways.json"
        return kept.is_file() and seat.endpoint in kept.read_text()

    def deliver(self, count: int) -> None:
        self.put(count)
        wait_until(lambda: self.outbox.counts().waiting == 0, "everything is acked")

    def close(self) -> None:
        self.uplink.close(0.0)
        self.outbox.close()


@contextmanager
def pair_of_gateways(folder: Path) -> Iterator[Pair]:
    """Run two gateways that have heard of each other."""
    pair = Pair(make_site(folder))
    for seat in pair.seats:
        seat.start()
    pair.exchange()
    yield pair
    for seat in pair.seats:
        seat.stop()


def stored(seat: Seat) -> int:
    assert seat.gateway is not None
    return sum(robot.stored for robot in seat.gateway.report().status.robots)
