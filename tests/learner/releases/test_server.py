"""The release server, over real encrypted sockets: whom it tells, what it sends and refuses."""

from __future__ import annotations

import tracemalloc

import pytest

from learner.releases import subscribers
from protocol.codec import encode_message
from protocol.errors import ConfigurationError
from protocol.messages import (
    Chunk,
    ChunkRequest,
    Refusal,
    ReleaseAnnouncement,
    ReleaseSubscription,
)
from tests.learner.releases.served_fleet import Fleet, ask, receive
from tests.releases import make_release
from tests.waiting import wait_until


def test_a_subscriber_hears_of_the_current_release_and_of_every_newer_one(fleet: Fleet):
    server = fleet.server()
    first = make_release(1)
    server.publish(first)
    robots = [fleet.robot(server) for _ in range(3)]
    for robot in robots:
        announcement, _ = ask(robot, ReleaseSubscription(have_version=0))
        assert isinstance(announcement, ReleaseAnnouncement)
        assert (announcement.version, announcement.size_bytes) == (1, len(first))

    server.publish(make_release(2))

    for robot in robots:
        announcement, _ = receive(robot)
        assert isinstance(announcement, ReleaseAnnouncement)
        assert announcement.version == 2
    assert server.current_version == 2


def test_a_subscriber_that_came_before_the_first_release_hears_of_it(fleet: Fleet):
    server = fleet.server()
    robot = fleet.robot(server)
    robot.send(encode_message(ReleaseSubscription(have_version=0)))
    wait_until(lambda: server.peers == 1, "the server knows the robot")

    server.publish(make_release(1))

    announcement, _ = receive(robot)
    assert isinstance(announcement, ReleaseAnnouncement)


def test_chunks_are_the_bytes_of_the_file(fleet: Fleet):
    server = fleet.server()
    data = make_release(1, padding_bytes=100_000)
    server.publish(data)
    robot = fleet.robot(server)
    fetched = b""
    while len(fetched) < len(data):
        request = ChunkRequest(version=1, offset=len(fetched), length=30_000)
        chunk, body = ask(robot, request)
        assert chunk == Chunk(version=1, offset=len(fetched))
        assert 0 < len(body) <= 30_000
        fetched += body
    assert fetched == data


def test_a_release_just_superseded_can_still_be_fetched_but_not_an_old_one(fleet: Fleet):
    server = fleet.server()
    for version in range(1, 5):
        server.publish(make_release(version))
    robot = fleet.robot(server)

    recent, _ = ask(robot, ChunkRequest(version=3, offset=0, length=10))
    old, _ = ask(robot, ChunkRequest(version=1, offset=0, length=10))

    assert isinstance(recent, Chunk)
    assert isinstance(old, Refusal)
    assert "current is 4" in old.reason


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (encode_message(ChunkRequest(version=1, offset=10**9, length=10)), "out-of-range"),
        (
            encode_message(ChunkRequest(version=1, offset=0, length=10, packed_from=7)),
            "release-not-served",
        ),
        (b"", "malformed"),
        (b"\xc1 not messagepack", "malformed"),
        (encode_message(Chunk(version=1, offset=0)), "malformed"),
        (b"\x91" * 60_000, "malformed"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words_and_the_server_lives(
    fleet: Fleet, request_bytes: bytes, code: str
):
    server = fleet.server()
    server.publish(make_release(1))
    robot = fleet.robot(server)
    robot.send(request_bytes)

    refusal, _ = receive(robot)

    assert isinstance(refusal, Refusal)
    assert (refusal.code, bool(refusal.reason)) == (code, True)
    assert isinstance(ask(robot, ReleaseSubscription(have_version=0))[0], ReleaseAnnouncement)


def test_a_request_with_a_body_is_refused(fleet: Fleet):
    server = fleet.server()
    robot = fleet.robot(server)
    robot.send_multipart([b"a body too many", encode_message(ReleaseSubscription(have_version=0))])
    refusal, _ = receive(robot)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, "with a body" in refusal.reason) == ("malformed", True)


def test_a_request_of_many_frames_is_refused_and_takes_no_memory(fleet: Fleet):
    robot = fleet.robot(fleet.server())
    header = encode_message(ChunkRequest(version=1, offset=0, length=1))
    tracemalloc.start()
    try:
        robot.send_multipart([header, *[b"x"] * 50_000])
        refusal, _ = receive(robot)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(refusal, Refusal)
    assert refusal.code == "malformed"
    assert peak_bytes < 2 * 2**20
    refusal, _ = ask(robot, ChunkRequest(version=1, offset=0, length=1))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "release-not-served"


def test_a_port_in_use_is_named(fleet: Fleet):
    server = fleet.server()
    with pytest.raises(ConfigurationError, match=f"{server.endpoint}: the port is in use"):
        fleet.server(endpoint=server.endpoint)


def test_versions_count_on_above_what_a_robot_has_unless_that_cannot_be_believed(fleet: Fleet):
    server = fleet.server()
    server.publish(make_release(5))
    robot = fleet.robot(server)
    for claimed, believed in ((3, 5), (90, 90), (2**53, 90), (8, 90)):
        ask(robot, ReleaseSubscription(have_version=claimed))
        assert server.highest_version == believed


@pytest.mark.parametrize("step", [0, 1])
def test_a_robot_that_is_far_ahead_cannot_fill_the_log(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, step: int
):
    server = fleet.server()
    server.publish(make_release(5))
    robot = fleet.robot(server)
    for index in range(10):
        robot.send(encode_message(ReleaseSubscription(have_version=2**52 + step * index)))
        receive(robot)
    assert sum("too far ahead to be believed" in said for said in caplog.messages) == 1


def test_a_silent_peer_is_forgotten(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subscribers, "FORGET_AFTER_S", 0.1)
    server = fleet.server()
    server.publish(make_release(1))
    ask(fleet.robot(server), ReleaseSubscription(have_version=0))
    wait_until(lambda: server.peers == 0, "the silent robot is forgotten")
