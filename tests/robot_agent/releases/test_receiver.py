"""The release receiver against a real release server: each new release, taken once."""

from __future__ import annotations

import pytest

from protocol.registry import Registry
from robot_agent.learner_connection import LearnerConnection
from tests.release_bench import CHUNK_BYTES, Bench, stay_score, take
from tests.releases import make_curve_keys, make_release
from tests.waiting import wait_until


def test_each_new_release_arrives_and_is_taken_once(bench: Bench):
    server = bench.server()
    receiver = bench.receiver(server.endpoint)
    assert receiver.take_newest() is None
    server.publish(make_release(1, bias=0.0))
    first = take(receiver, 1)
    server.publish(make_release(2, bias=2.0, padding_bytes=5 * CHUNK_BYTES))
    second = take(receiver, 2)

    assert stay_score(second) > stay_score(first)
    assert receiver.take_newest() is None
    assert receiver.refused == 0


def test_a_receiver_that_has_nothing_to_do_for_long_ends_at_once(bench: Bench):
    receiver = bench.receiver("tcp://127.0.0.1:1", subscribe_every_s=3600.0)
    receiver.close()
    receiver.close()
    assert not receiver.alive


def test_a_robot_that_was_off_while_many_releases_came_and_went_gets_the_newest(bench: Bench):
    server = bench.server()
    server.publish(make_release(1))
    receiver = bench.receiver(server.endpoint)
    take(receiver, 1)
    receiver.close()
    for version in range(2, 13):
        server.publish(make_release(version))

    back = bench.receiver(server.endpoint)

    assert back.version == 1
    wait_until(lambda: back.version == 12, "release 12 is ready")
    assert back.requested_bytes < 2 * len(make_release(12))
    assert back.refused == 0


def test_a_learner_that_lost_its_releases_counts_on_above_what_its_robots_have(bench: Bench):
    server = bench.server()
    server.publish(make_release(41))
    receiver = bench.receiver(server.endpoint)
    take(receiver, 41)
    server.close()

    again = bench.server(server.endpoint, folder="an empty one")

    wait_until(lambda: again.highest_version == 41, "the robot has said what it has")
    assert again.current_version == 0
    again.publish(make_release(again.highest_version + 1))
    take(receiver, 42)


def test_a_robot_whose_key_is_not_enrolled_is_told_so_and_let_in_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("robot_agent.learner_connection.RETRY_REFUSED_AFTER_S", 0.2)
    server = bench.server()
    server.publish(make_release(1))
    keys = make_curve_keys()
    receiver = bench.receiver(server.endpoint, keys=keys)
    wait_until(lambda: receiver.connection_refusal != "", "the robot says that it is refused")
    assert "not enrolled" in receiver.trouble

    Registry(bench.folder / "registry").enrol("robot-2", keys.public.decode("ascii"))

    take(receiver, 1)
    assert receiver.connection_refusal == ""


def test_an_error_of_our_own_between_two_messages_does_not_end_the_receiver(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    receive = LearnerConnection.receive
    monkeypatch.setattr("robot_agent.releases.receiver._AFTER_ERROR_S", 0.01)
    monkeypatch.setattr(LearnerConnection, "receive", lambda *_: 1 // 0)
    server = bench.server()
    receiver = bench.receiver(server.endpoint)
    wait_until(lambda: "begins anew" in caplog.text, "it says that there was an error")
    monkeypatch.setattr(LearnerConnection, "receive", receive)
    server.publish(make_release(1))
    take(receiver, 1)
