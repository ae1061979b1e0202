"""Two gateways, each with a store of its own: robots move between them, and nothing is lost."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq

from fleet.verification import verify
from learner.ingestion.exchange import Exchange
from learner.ingestion.gateway import Gateway
from learner.ingestion.gateway_report import GatewayReport, HeardReport
from learner.store.stored_episode import Arrival
from protocol.codec import encode_episode
from protocol.messages import Ack, Redirect, Refusal, Welcome
from robot_agent.delivery.outbox import Outbox
from robot_agent.delivery.uplink import Uplink
from tests.delivery_site import DeliverySite, free_port, make_site, wait_until
from tests.episodes import make_episode
from tests.peer import Peer


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
        assert self.gateway is not None
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


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr("robot_agent.delivery.gateways.LEAVE_AFTER_S", 0.3)
    pair = Pair(make_site(tmp_path))
    for seat in pair.seats:
        seat.start()
    pair.exchange()
    yield pair
    for seat in pair.seats:
        seat.stop()


def start_process(seat: Seat) -> subprocess.Popen[bytes]:
    """Start a seat's gateway as a process, which can be killed."""
    folder = seat.store.parent / f"{seat.store.name}-process"
    folder.mkdir()
    (folder / "endpoint").write_text(seat.endpoint)
    for name in ("keys", "registry"):
        (folder / name).symlink_to(seat.site.folder / name)
    seat.store.mkdir(exist_ok=True)
    (folder / "store").symlink_to(seat.store)
    return DeliverySite(folder).start("gateway")


def stored(seat: Seat) -> int:
    assert seat.gateway is not None
    return sum(robot.stored for robot in seat.gateway.report().status.robots)


def test_a_robot_whose_gateway_is_gone_delivers_to_the_other_and_both_count_together(pair: Pair):
    pair.site.enrol("arm")
    robot = pair.robot("arm")
    robot.deliver(10)
    first, second = pair.seats
    pair.exchange()
    first.stop()
    robot.deliver(10)
    robot.close()
    assert stored(second) == 10
    pair.exchange()
    assert second.gateway is not None
    (told,) = second.gateway.status().robots
    assert (told.stored, told.missing, told.gateway) == (20, 0, second.endpoint)
    (alone,) = second.gateway.report().status.robots
    assert (alone.stored, alone.missing) == (10, 10)
    second.stop()
    found = verify([first.store, second.store], None)
    assert found.sound
    assert found.robots["arm"].stored == 20


def test_a_robot_that_was_welcomed_before_its_gateway_heard_of_the_other_is_told_later(pair: Pair):
    first, second = pair.seats
    first.stop()
    first.start()
    pair.site.enrol("arm")
    robot = pair.robot("arm")
    robot.deliver(1)
    pair.exchange()
    wait_until(lambda: robot.knows(second), "it is told of the other gateway")
    assert stored(first) == 1
    first.stop()
    robot.deliver(1)
    robot.close()
    assert stored(second) == 1


def test_a_gateway_names_the_others_before_it_heard_of_any(pair: Pair):
    first, second = pair.seats
    first.stop()
    first.start(others=[second.endpoint])
    pair.site.enrol("arm")
    robot = pair.robot("arm")
    robot.deliver(1)
    first.stop()
    robot.deliver(1)
    robot.close()
    assert stored(second) == 1


def test_a_robot_that_starts_again_goes_where_it_was_welcomed_last(pair: Pair):
    pair.site.enrol("arm")
    pair.seats[0].stop()
    robot = pair.robot("arm", at=(0, 1))
    robot.deliver(1)
    robot.close()
    pair.seats[0].start()
    robot = pair.robot("arm", at=(0, 1))
    robot.deliver(1)
    robot.close()
    assert [stored(seat) for seat in pair.seats] == [0, 2]


def test_a_gateway_that_is_killed_while_robots_deliver_loses_and_doubles_nothing(pair: Pair):
    first, second = pair.seats
    first.stop()
    process = start_process(first)
    names = [f"arm-{number}" for number in range(4)]
    for name in names:
        pair.site.enrol(name)
    robots = [pair.robot(name, at=(0, 1)) for name in names]
    try:
        for robot in robots:
            robot.put(90)
        wait_until(lambda: any(one.outbox.counts().acked for one in robots), "the first acks")
        process.kill()
        process.wait()
        for robot in robots:
            robot.deliver(10)
    finally:
        process.kill()
        process.wait()
        for robot in robots:
            robot.close()
    first.start()
    pair.exchange()
    for seat in (first, second):
        seat.stop()
    found = verify([first.store, second.store], None)
    assert found.sound, found.findings()
    assert {name: one.stored for name, one in found.robots.items()} == dict.fromkeys(names, 100)


def test_a_robot_whose_gateway_is_full_goes_to_another(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("robot_agent.delivery.uplink.PAUSE_S", 0.1)
    first, second = pair.seats
    first.stop()
    first.start(max_store_bytes=400_000)
    pair.site.enrol("arm")
    robot = pair.robot("arm", at=(0, 1))
    robot.deliver(40)
    robot.close()
    assert 0 < stored(first) < 40
    assert stored(first) + stored(second) == 40


def test_a_robot_leaves_a_gateway_that_greets_and_stores_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("robot_agent.delivery.uplink.RESEND_AFTER_S", 0.3)
    monkeypatch.setattr("robot_agent.learner_connection.SILENCE_S", 2.0)
    pair.site.enrol("arm")
    first, second = pair.seats
    assert first.gateway is not None
    disk_answers = threading.Event()
    commit = first.gateway._store.commit

    def hang(arrivals: Sequence[Arrival]) -> object:
        disk_answers.wait()
        return commit(arrivals)

    monkeypatch.setattr(first.gateway._store, "commit", hang)
    robot = pair.robot("arm", at=(0, 1))
    try:
        robot.put(3)
        wait_until(lambda: "acks nothing" in robot.uplink.trouble, "it is said")
        robot.deliver(1)
        assert robot.uplink.trouble == ""
    finally:
        disk_answers.set()
        robot.close()
    assert stored(second) == 4


@contextmanager
def mute_gateway(seat: Seat) -> Iterator[None]:
    """Let everyone in at the place of a gateway, and answer nothing."""
    keys = seat.site.keys_of("learner")
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.curve_server = True
        router.curve_publickey, router.curve_secretkey = keys.public, keys.secret
        router.bind(seat.endpoint)
        yield


def test_a_robot_leaves_a_gateway_that_lets_it_in_and_answers_no_greeting(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("robot_agent.delivery.uplink.HELLO_AGAIN_S", 0.3)
    pair.site.enrol("arm")
    first, second = pair.seats
    first.stop()
    with mute_gateway(first):
        robot = pair.robot("arm", at=(0, 1))
        robot.deliver(1)
        robot.close()
    assert stored(second) == 1


def test_new_robots_are_spread_over_the_gateways(pair: Pair):
    names = [f"arm-{number}" for number in range(6)]
    for name in names:
        pair.site.enrol(name)
    robots = [pair.robot(name) for name in names]
    for robot in robots:
        robot.deliver(1)
    for robot in robots:
        robot.close()
    assert [stored(seat) for seat in pair.seats] == [3, 3]


def test_some_robots_of_a_crowded_gateway_move_and_nothing_is_lost_or_doubled(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("learner.ingestion.balance.PATIENCE_S", 1.0)
    monkeypatch.setattr("learner.ingestion.balance.BETWEEN_S", 0.5)
    first, second = pair.seats
    second.stop()
    names = [f"arm-{number}" for number in range(6)]
    for name in names:
        pair.site.enrol(name)
    robots = [pair.robot(name) for name in names]
    for robot in robots:
        robot.deliver(5)
    second.start()

    def moved() -> int:
        for robot in robots:
            robot.deliver(1)
        pair.exchange()
        assert second.gateway is not None
        return len(second.gateway.report().sessions)

    wait_until(lambda: moved() >= 2, "two robots have moved")
    for robot in robots:
        robot.deliver(5)
    written = sum(robot.written for robot in robots)
    for robot in robots:
        robot.close()
    for _ in range(2):
        pair.exchange()
    for seat in pair.seats:
        seat.stop()
    found = verify([first.store, second.store], None)
    assert found.sound, found.findings()
    assert sum(one.stored for one in found.robots.values()) == written


def test_who_was_sent_on_is_taken_in_and_so_is_who_knows_no_redirects(pair: Pair):
    for name in ("first", "new", "old"):
        pair.site.enrol(name)
    robot = pair.robot("first")
    robot.deliver(1)
    pair.exchange()
    new, old = pair.peer("new", 0), pair.peer("old", 0)
    answer = new.hello("new")
    assert answer == Redirect(endpoint=pair.endpoints[1], gateways=pair.endpoints)
    taken_in = new.hello("new", sent_on=True)
    assert isinstance(taken_in, Welcome)
    assert taken_in.gateways == pair.endpoints
    served = old.hello("old", wire_version=3)
    assert isinstance(served, Welcome)
    assert served.gateways == []
    for one in (robot, new, old):
        one.close()


def test_a_robot_that_lost_its_list_is_sent_to_the_store_that_knows_it(pair: Pair):
    for name in ("arm", "other", "another"):
        pair.site.enrol(name)
    busy = [pair.robot(name, at=(1,)) for name in ("other", "another")]
    peer = pair.peer("arm", 1)
    peer.hello("arm", sent_on=True)
    peer.submit(1, encode_episode(make_episode("arm")))
    peer.close()
    pair.exchange()
    again = pair.peer("arm", 0)
    answer = again.hello("arm")
    assert isinstance(answer, Redirect)
    assert answer.endpoint == pair.endpoints[1]
    again.close()
    for robot in busy:
        robot.close()


def test_a_second_agent_with_the_same_key_is_refused_at_the_other_gateway_too(pair: Pair):
    pair.site.enrol("arm")
    one = pair.peer("arm", 0)
    assert isinstance(one.hello("arm", process_id=b"1" * 16), Welcome)
    pair.exchange()
    other = pair.peer("arm", 1)
    refusal = other.hello("arm", process_id=b"2" * 16)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "two-agents"
    assert pair.endpoints[0] in refusal.reason
    # The same agent may move.
    assert isinstance(other.hello("arm", process_id=b"1" * 16, sent_on=True), Welcome)
    one.close()
    other.close()


def deliver_twice(pair: Pair) -> None:
    """Have 1, 2 and 3 stored by the first gateway, 2, 3 and 4 by the second."""
    pair.site.enrol("arm")
    for place, sequences in enumerate([(1, 2, 3), (2, 3, 4)]):
        peer = pair.peer("arm", place)
        # As if the acks of 2 and 3 had been lost with the first gateway.
        assert isinstance(peer.hello("arm", process_id=b"1" * 16, sent_on=bool(place)), Welcome)
        for sequence in sequences:
            record = encode_episode(make_episode("arm", sequence, success=True))
            assert isinstance(peer.submit(sequence, record), Ack)
        peer.close()


def test_an_episode_that_two_stores_have_counts_once(pair: Pair):
    deliver_twice(pair)
    reports = [seat.report(0.0) for seat in pair.seats]
    for seat, other in zip(pair.seats, reversed(reports), strict=True):
        assert seat.gateway is not None
        assert other is not None
        seat.hear([HeardReport(report=other, age_s=0.0)])
        status = seat.gateway.status()
        (robot,) = status.robots
        assert (robot.stored, robot.missing, status.episodes_stored) == (4, 0, 4)


def test_of_two_copies_one_goes_when_both_gateways_are_there(pair: Pair):
    deliver_twice(pair)
    first, second = pair.seats
    pair.exchange()
    pair.exchange()
    for seat in pair.seats:
        assert seat.gateway is not None
        (robot,) = seat.gateway.status().robots
        assert (robot.stored, robot.missing, robot.attempts) == (4, 0, 4)
    first.stop()
    # Sent again it is known, also where it was removed.
    peer = pair.peer("arm", 1)
    peer.hello("arm", process_id=b"1" * 16)
    assert isinstance(peer.submit(2, encode_episode(make_episode("arm", 2, success=True))), Ack)
    peer.close()
    second.stop()
    found = verify([first.store, second.store], None)
    assert found.sound, found.findings()
    counts = found.robots["arm"]
    assert (counts.stored, counts.duplicated, counts.missing, counts.retired) == (4, 0, 0, 0)
    assert counts.refused_duplicates == 1
    assert sum("as copies that another store keeps" in line for line in found.findings()) == 1


def test_two_episodes_under_one_key_in_two_stores_are_both_kept_and_said(
    pair: Pair, caplog: pytest.LogCaptureFixture
):
    pair.site.enrol("arm")
    for place in range(2):
        peer = pair.peer("arm", place)
        peer.hello("arm", process_id=b"1" * 16, sent_on=bool(place))
        for sequence in (1, 2):
            peer.submit(sequence, encode_episode(make_episode("arm", 10 * place + sequence)))
        peer.close()
    pair.exchange()
    assert caplog.text.count("two different episodes under the key arm/") == 2
    for seat in pair.seats:
        seat.stop()
    found = verify([seat.store for seat in pair.seats], None)
    assert (found.robots["arm"].stored, found.robots["arm"].conflicts) == (4, 2)
    assert not found.sound
