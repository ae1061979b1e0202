"""The release server, over real encrypted sockets."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from learner.releases import subscribers
from learner.releases.folder import ReleaseFolder
from learner.releases.server import ReleaseServer
from protocol.codec import decode_message, encode_message
from protocol.errors import ConfigurationError, RejectedReleaseError
from protocol.messages import (
    Chunk,
    ChunkRequest,
    FromReleaseServer,
    Refusal,
    ReleaseAnnouncement,
    ReleaseList,
    ReleaseListRequest,
    ReleasePin,
    ReleaseSubscription,
)
from protocol.release_packing import unpack_release_file
from protocol.security import CurveKeys
from protocol.sockets import SocketLimits, make_dealer
from tests.releases import (
    OTHER_KEY,
    SIGNING_KEY,
    enrol,
    make_curve_keys,
    make_release,
    make_similar_release,
    wait_until,
    write_secret,
)

SERVER_KEYS = make_curve_keys()


class Fleet:
    """A folder with a registry, servers on it, and robots' bare sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = zmq.Context()
        self.servers: list[ReleaseServer] = []
        self.keys = make_curve_keys()
        self.registry = enrol(folder / "registry", "robot-1", self.keys)

    def server(self, endpoint: str = "tcp://127.0.0.1:*", keep: int = 3) -> ReleaseServer:
        server = ReleaseServer(
            endpoint=endpoint,
            server_secret=write_secret(self.folder / "server.secret", SERVER_KEYS),
            registry=self.registry,
            folder=self.folder / "releases",
            keep=keep,
            signing_key=SIGNING_KEY,
        )
        server.start()
        self.servers.append(server)
        return server

    def operator(self, server: ReleaseServer) -> zmq.Socket[bytes]:
        keys = make_curve_keys()
        self.registry.enrol(f"operator-{len(self.servers)}", keys.public.decode(), role="operator")
        return self.robot(server, keys)

    def robot(self, server: ReleaseServer, keys: CurveKeys | None = None) -> zmq.Socket[bytes]:
        limits = SocketLimits(frame_bytes=2**22)
        socket = make_dealer(self.context, keys or self.keys, SERVER_KEYS.public, limits)
        socket.connect(server.endpoint)
        socket.setsockopt(zmq.RCVTIMEO, 10_000)
        socket.setsockopt(zmq.SNDTIMEO, 10_000)
        return socket

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "releases").glob("*"))

    def close(self) -> None:
        for server in self.servers:
            server.close()
        self.context.destroy(linger=0)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


def receive(socket: zmq.Socket[bytes]) -> tuple[object, bytes]:
    frames = socket.recv_multipart()
    return decode_message(frames[0], FromReleaseServer), b"".join(frames[1:])


def ask(socket: zmq.Socket[bytes], message: object) -> tuple[object, bytes]:
    socket.send(encode_message(message))
    return receive(socket)


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


def test_a_release_is_announced_although_the_disk_is_slow(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
):
    server = fleet.server()
    server.publish(make_release(1))
    robot = fleet.robot(server)
    ask(robot, ReleaseSubscription(have_version=1))
    heard = threading.Event()
    store = ReleaseFolder.store

    def store_once_heard(*arguments: object, **options: object) -> None:
        assert heard.wait(10.0)
        store(*arguments, **options)

    monkeypatch.setattr(ReleaseFolder, "store", store_once_heard)
    publishing = threading.Thread(target=server.publish, args=[make_release(2)])
    publishing.start()
    assert receive(robot)[0].version == 2
    heard.set()
    publishing.join()
    assert fleet.files()[-1] == "release-0000000002.gfrel"


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
    assert (refusal.code, "2 frames" in refusal.reason) == ("malformed", True)


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


def test_a_restarted_server_goes_on_with_the_newest_release(fleet: Fleet):
    server = fleet.server()
    server.publish(make_release(1))
    server.publish(make_release(2))
    server.close()

    again = fleet.server(endpoint=server.endpoint)

    assert again.current_version == 2
    announcement, _ = ask(fleet.robot(again), ReleaseSubscription(have_version=0))
    assert isinstance(announcement, ReleaseAnnouncement)
    assert announcement.version == 2


def test_a_damaged_file_is_passed_over_at_the_start(fleet: Fleet):
    server = fleet.server()
    server.publish(make_release(1))
    server.publish(make_release(2))
    server.close()
    newest = fleet.folder / "releases" / fleet.files()[-1]
    newest.write_bytes(newest.read_bytes()[:-100])

    assert fleet.server().current_version == 1


def test_only_the_newest_files_are_kept(fleet: Fleet):
    server = fleet.server(keep=2)
    for version in (1, 9, 10, 11):
        server.publish(make_release(version))
    assert fleet.files() == ["release-0000000010.gfrel", "release-0000000011.gfrel"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (make_release(6, key=OTHER_KEY), "not of the key"),
        (make_release(6)[:-1], "signature"),
        (make_release(4), "not newer"),
        (make_release(5, bias=0.9), "not newer"),
    ],
)
def test_what_robots_would_refuse_is_never_announced(fleet: Fleet, data: bytes, reason: str):
    server = fleet.server()
    server.publish(make_release(5))

    with pytest.raises(RejectedReleaseError, match=reason):
        server.publish(data)

    assert server.current_version == 5
    assert fleet.files() == ["release-0000000005.gfrel"]


def test_publishing_the_current_release_again_changes_nothing(fleet: Fleet):
    server = fleet.server()
    server.publish(make_release(5))
    server.publish(make_release(5))
    assert server.current_version == 5


def test_a_folder_that_cannot_be_written_does_not_stop_a_release(fleet: Fleet):
    server = fleet.server()
    (fleet.folder / "releases").write_text("a file where the folder belongs")
    server.publish(make_release(1))
    announcement, _ = ask(fleet.robot(server), ReleaseSubscription(have_version=0))
    assert isinstance(announcement, ReleaseAnnouncement)


def test_a_port_in_use_is_named(fleet: Fleet):
    server = fleet.server()
    with pytest.raises(ConfigurationError, match=f"{server.endpoint}: the port is in use"):
        fleet.server(endpoint=server.endpoint)


def test_the_operator_lists_and_pins_and_a_robot_may_not(fleet: Fleet):
    server = fleet.server()
    for version in (1, 2):
        server.publish(make_release(version, metrics={"step": 10.0 * version}))
    server.catalogue.withhold("worse than before")
    operator = fleet.operator(server)

    listing, _ = ask(operator, ReleasePin(version=1, robot_id="robot-1"))

    assert isinstance(listing, ReleaseList)
    assert [(entry.version, entry.trained_steps) for entry in listing.releases] == [
        (2, 20),
        (1, 10),
    ]
    assert (listing.current, listing.pinned) == (2, {"robot-1": 1})
    assert (listing.withheld, listing.warnings) == (["worse than before"], [])
    for request in (ReleasePin(version=2), ReleaseListRequest()):
        refusal, _ = ask(fleet.robot(server), request)
        assert isinstance(refusal, Refusal)
        assert refusal.code == "not-an-operator"
        assert "the key of robot-1" in refusal.reason
    assert server.catalogue.pins() == {"robot-1": 1}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ReleasePin(version=7), "release 7 is not on the learner's disk, or damaged; there: 2, 1"),
        (ReleasePin(version=1, robot_id="robot-9"), "not an enrolled robot; enrolled: robot-1"),
        (ReleasePin(version=1, robot_id="operator"), "not an enrolled robot"),
    ],
)
def test_what_cannot_be_pinned_is_said(fleet: Fleet, request_: ReleasePin, reason: str):
    server = fleet.server()
    for version in (1, 2):
        server.publish(make_release(version))
    refusal, _ = ask(fleet.operator(server), request_)
    assert isinstance(refusal, Refusal)
    assert reason in refusal.reason
    assert server.catalogue.pins() == {}


def test_a_pin_that_cannot_be_written_is_refused_and_changes_nothing(fleet: Fleet):
    server = fleet.server()
    for version in (1, 2):
        server.publish(make_release(version))
    (fleet.folder / "releases" / "pins.json").mkdir()
    refusal, _ = ask(fleet.operator(server), ReleasePin(version=1))
    assert isinstance(refusal, Refusal)
    assert "pins.json cannot be written" in refusal.reason
    announcement, _ = ask(fleet.robot(server), ReleaseSubscription(have_version=0))
    assert announcement.version == 2


def test_damaged_pins_keep_a_server_from_starting_rather_than_unpin_the_fleet(fleet: Fleet):
    (fleet.folder / "releases").mkdir()
    (fleet.folder / "releases" / "pins.json").write_text('{"number": 3, "versions": {"": 1}')
    with pytest.raises(ConfigurationError, match=r"pins\.json.*mend the file, or remove it"):
        fleet.server()


def test_a_pinned_release_that_is_damaged_on_disk_is_named_and_not_announced(fleet: Fleet):
    server = fleet.server()
    for version in (1, 2):
        server.publish(make_release(version))
    ask(fleet.operator(server), ReleasePin(version=1))
    server.close()
    (fleet.folder / "releases" / "release-0000000001.gfrel").write_bytes(b"damaged")
    again = fleet.server()
    robot = fleet.robot(again)
    robot.send(encode_message(ReleaseSubscription(have_version=2)))

    listing, _ = ask(fleet.operator(again), ReleaseListRequest())

    assert (
        "the whole fleet is pinned to release 1, which is missing or damaged" in listing.warnings[0]
    )
    chunk, _ = ask(robot, ChunkRequest(version=2, offset=0, length=10))
    assert isinstance(chunk, Chunk)  # and no announcement before it


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_release_that_went_bad_since_it_was_listed_cannot_be_pinned(
    fleet: Fleet, content: bytes | None
):
    server = fleet.server()
    for version in (1, 2):
        server.publish(make_release(version))
    operator = fleet.operator(server)
    listing, _ = ask(operator, ReleaseListRequest())
    assert [entry.version for entry in listing.releases] == [2, 1]
    file = fleet.folder / "releases" / "release-0000000001.gfrel"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    refusal, _ = ask(operator, ReleasePin(version=1))
    assert isinstance(refusal, Refusal)
    assert "release 1 is not on the learner's disk, or damaged" in refusal.reason
    assert server.catalogue.pins() == {}


def test_asking_for_a_release_that_is_not_made_yet_is_no_damage(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
):
    server = fleet.server()
    operator = fleet.operator(server)
    assert isinstance(ask(operator, ReleasePin(version=1))[0], Refusal)
    assert not any("cannot be used" in said for said in caplog.messages)
    server.publish(make_release(1))
    assert ask(operator, ReleasePin(version=1))[0].pinned == {"": 1}


def test_a_robot_of_wire_version_one_is_served_but_cannot_be_sent_back_which_is_said(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
):
    server = fleet.server()
    for version in (1, 2, 3):
        server.publish(make_release(version))
    operator, robot = fleet.operator(server), fleet.robot(server)
    old = {"type": "release_subscription", "have_version": 3}
    robot.send(msgspec.msgpack.encode(old))
    receive(robot)

    listing, _ = ask(operator, ReleasePin(version=2, robot_id="robot-1"))

    assert "robot-1 has release 3 and cannot go back to 2" in listing.warnings[0]
    for _ in range(3):
        robot.send(msgspec.msgpack.encode(old))
    # One that has an older release yet is told as before, in words of its version.
    robot.send(msgspec.msgpack.encode(old | {"have_version": 1}))
    told = msgspec.msgpack.decode(robot.recv())
    assert (told["version"], "order" in told) == (2, False)
    said = [each for each in caplog.messages if "cannot go back from release 3 to 2" in each]
    assert len(said) == 1


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
