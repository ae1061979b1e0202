"""Two gateways, each with a store of its own: robots leave one for the other, nothing is lost."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fleet.verification import verify
from learner.store.stored_episode import Arrival
from tests.delivery_site import DeliverySite
from tests.integration.pair_of_gateways import Pair, Seat, pair_of_gateways, stored
from tests.silent_server import silent_server
from tests.waiting import wait_until


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr("robot_agent.delivery.gateways.LEAVE_AFTER_S", 0.3)
    with pair_of_gateways(tmp_path) as pair:
        yield pair


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


def test_a_robot_leaves_a_gateway_that_lets_it_in_and_answers_no_greeting(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("robot_agent.delivery.uplink.HELLO_AGAIN_S", 0.3)
    pair.site.enrol("arm")
    first, second = pair.seats
    first.stop()
    with silent_server(first.site.keys_of("learner"), first.endpoint):
        robot = pair.robot("arm", at=(0, 1))
        robot.deliver(1)
        robot.close()
    assert stored(second) == 1
