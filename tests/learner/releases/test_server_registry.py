"""Whom the release server serves: keys that are revoked, and a registry out of reach."""

from __future__ import annotations

from protocol.messages import (
    Chunk,
    ChunkRequest,
    Refusal,
    ReleaseAnnouncement,
    ReleaseSubscription,
)
from tests.learner.releases.served_fleet import Fleet, ask, receive
from tests.releases import make_curve_keys, make_release, make_similar_release


def test_a_key_revoked_on_an_open_connection_gets_a_refusal_instead_of_bytes(fleet: Fleet):
    server = fleet.server()
    server.publish(make_release(1))
    robot = fleet.robot(server)
    ask(robot, ReleaseSubscription(have_version=0))

    fleet.registry.revoke("robot-1")
    refusal, body = ask(robot, ChunkRequest(version=1, offset=0, length=10))

    assert isinstance(refusal, Refusal)
    assert (refusal.code, body) == ("not-enrolled", b"")
    assert "revoked" in refusal.reason


def test_a_revoked_robot_that_says_nothing_is_neither_told_of_a_release_nor_sent_it(fleet: Fleet):
    server = fleet.server()
    server.publish(make_similar_release(1, bytes(50_000)))
    others = make_curve_keys()
    fleet.registry.enrol("robot-2", others.public.decode())
    revoked, other = fleet.robot(server), fleet.robot(server, others)
    for robot in (revoked, other):
        ask(robot, ReleaseSubscription(have_version=1, wire_version=3))

    fleet.registry.revoke("robot-1")
    server.publish(make_similar_release(2, bytes(50_000)))

    assert receive(other)[0].version == 2
    assert receive(other)[0] == Chunk(version=2, offset=0, packed_from=1)
    # Had there been an announcement, it would come before the answer.
    assert isinstance(ask(revoked, ReleaseSubscription(have_version=1))[0], Refusal)
    assert server.peers == 1


def test_a_registry_that_cannot_be_read_refuses_and_the_server_lives(fleet: Fleet):
    server = fleet.server()
    server.publish(make_release(1))
    robot = fleet.robot(server)
    ask(robot, ReleaseSubscription(have_version=0))
    registry = fleet.folder / "registry"

    registry.rename(fleet.folder / "moved")
    refusal, _ = ask(robot, ReleaseSubscription(have_version=0))
    (fleet.folder / "moved").rename(registry)

    assert isinstance(refusal, Refusal)
    assert "registry" in refusal.reason
    assert isinstance(ask(robot, ReleaseSubscription(have_version=0))[0], ReleaseAnnouncement)
