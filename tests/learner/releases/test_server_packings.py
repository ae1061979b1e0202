"""Packings of a release against the one that a robot has: offered, sent unasked, held."""

from __future__ import annotations

import hashlib

from learner.releases.server import ReleaseServer
from protocol.messages import (
    Chunk,
    ChunkRequest,
    ReleaseAnnouncement,
    ReleasePin,
    ReleaseSubscription,
)
from protocol.release_packing import unpack_release_file
from tests.learner.releases.served_fleet import Fleet, ask, receive
from tests.releases import make_release, make_similar_release


def announced(fleet: Fleet, server: ReleaseServer, **fields: int) -> ReleaseAnnouncement:
    announcement, _ = ask(fleet.robot(server), ReleaseSubscription(**fields))
    assert isinstance(announcement, ReleaseAnnouncement)
    return announcement


def test_a_packing_against_the_release_that_a_robot_has_gives_it_the_newest(fleet: Fleet):
    server = fleet.server()
    files = {version: make_similar_release(version, bytes(50_000)) for version in (1, 2, 3)}
    for data in files.values():
        server.publish(data)
    for have, base in ((0, 0), (1, 1), (2, 2), (77, 0)):
        offer = announced(fleet, server, have_version=have, wire_version=3)
        assert offer.packing is not None
        assert offer.packing.base_version == base
        assert offer.packing.follows_bytes == 0
        if base:
            digest = hashlib.sha256(files[base][:-64]).digest()
            assert offer.packing.base_digest == digest
        length = offer.packing.size_bytes
        request = ChunkRequest(version=3, offset=0, length=length, packed_from=base)
        chunk, packed = ask(fleet.robot(server), request)
        assert chunk == Chunk(version=3, offset=0, packed_from=base)
        assert unpack_release_file(packed, len(files[3]), files.get(base, b"")) == files[3]


def test_a_robot_that_was_up_to_date_is_sent_the_packing_unasked_and_no_other_robot_is(
    fleet: Fleet,
):
    server = fleet.server()
    for version in (1, 2):
        server.publish(make_similar_release(version, bytes(50_000)))
    ready, late, old = (fleet.robot(server) for _ in range(3))
    ask(ready, ReleaseSubscription(have_version=2, wire_version=3))
    ask(late, ReleaseSubscription(have_version=1, wire_version=3))
    ask(old, ReleaseSubscription(have_version=2, wire_version=2))

    server.publish(make_similar_release(3, bytes(50_000)))

    offer, _ = receive(ready)
    chunk, body = receive(ready)
    assert offer.packing.follows_bytes == offer.packing.size_bytes == len(body)
    assert chunk == Chunk(version=3, offset=0, packed_from=2)
    for robot in (late, old):
        assert receive(robot)[0].version == 3
        # Had there been a chunk, it would have come before the answer.
        assert isinstance(ask(robot, ReleaseSubscription(have_version=2))[0], ReleaseAnnouncement)


def test_a_pin_pushes_nothing_to_a_robot_that_is_still_fetching_the_newest_release(fleet: Fleet):
    server = fleet.server()
    server.publish(make_similar_release(1, bytes(50_000)))
    robot, operator = fleet.robot(server), fleet.operator(server)
    subscription = ReleaseSubscription(have_version=1, wire_version=3)
    ask(robot, subscription)
    server.publish(make_similar_release(2, bytes(50_000)))
    assert [type(receive(robot)[0]) for _ in range(2)] == [ReleaseAnnouncement, Chunk]

    ask(operator, ReleasePin(version=2))

    assert isinstance(receive(robot)[0], ReleaseAnnouncement)
    # Had there been a chunk, it would have come before the answer.
    assert isinstance(ask(robot, subscription)[0], ReleaseAnnouncement)


def test_older_agents_are_told_of_no_packing(fleet: Fleet):
    server = fleet.server()
    server.publish(make_similar_release(1, bytes(50_000)))
    assert announced(fleet, server, have_version=0, wire_version=2).packing is None
    assert announced(fleet, server, have_version=0).packing is None
    assert announced(fleet, server, have_version=0, wire_version=3).packing is not None


def test_what_no_packing_makes_smaller_is_offered_as_it_is(fleet: Fleet):
    server = fleet.server()
    for version in (1, 2):
        server.publish(make_release(version, padding_bytes=50_000))
    assert announced(fleet, server, have_version=1, wire_version=3).packing is None


def test_packings_are_held_of_the_newest_releases_only(fleet: Fleet):
    server = fleet.server()
    for version in range(1, 9):
        server.publish(make_similar_release(version, bytes(50_000)))
        if version > 5:
            announced(fleet, server, have_version=version - 2, wire_version=3)
    robot = fleet.robot(server)

    def served(version: int, base: int) -> bool:
        request = ChunkRequest(version=version, offset=0, length=10, packed_from=base)
        return isinstance(ask(robot, request)[0], Chunk)

    held = {(v, base) for v in range(1, 9) for base in range(9) if served(v, base)}
    assert held == {(6, 0), (6, 5), (6, 4), (7, 0), (7, 6), (7, 5), (8, 0), (8, 7), (8, 6)}


def test_a_restarted_server_has_the_same_packings_again(fleet: Fleet):
    server = fleet.server()
    for version in (1, 2, 3):
        server.publish(make_similar_release(version, bytes([version]) * 50_000))
    before = announced(fleet, server, have_version=2, wire_version=3)
    server.close()
    again = fleet.server(endpoint=server.endpoint)
    assert announced(fleet, again, have_version=2, wire_version=3) == before
