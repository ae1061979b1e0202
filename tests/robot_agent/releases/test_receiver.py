"""The release receiver against a real release server: cuts, kills, forgeries, restarts."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from learner.releases.server import ReleaseServer
from protocol.codec import decode_message, encode_message
from protocol.episode import GripperPose
from protocol.key_files import write_over
from protocol.messages import (
    Chunk,
    ChunkRequest,
    Refusal,
    ReleaseAnnouncement,
    ToReleaseServer,
)
from protocol.registry import Registry
from protocol.release import Release, pack_release
from protocol.release_packing import pack_release_file
from robot_agent.learner_connection import LearnerConnection
from robot_agent.policy.q_function import QFunction
from robot_agent.releases.download import MAX_UNDER_WAY
from tests.disks import small_disk
from tests.metered_link import MeteredLink
from tests.release_bench import CHUNK_BYTES, Bench, take
from tests.releases import (
    OTHER_KEY,
    SIGNING_KEY,
    SIZE_PX,
    make_curve_keys,
    make_encode_graph,
    make_manifest,
    make_release,
    make_score_graph,
    make_similar_release,
    wait_until,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def port_of(endpoint: str) -> int:
    return int(endpoint.rsplit(":", 1)[1])


def stay_score(q_function: QFunction) -> float:
    image = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
    pose = GripperPose(x_m=0.0, y_m=0.0, z_m=0.05, yaw_rad=0.0)
    features = q_function.encode(image, image)
    return float(q_function.score(features, pose, np.zeros((1, 5), np.float32))[0])


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


def test_a_fetch_resumes_where_it_was_when_the_connection_is_cut(bench: Bench):
    server = bench.server()
    data = make_release(1, padding_bytes=40 * CHUNK_BYTES)
    server.publish(data)
    with MeteredLink(port_of(server.endpoint)) as link:
        link.allow(len(data) // 2)
        receiver = bench.receiver(link.endpoint)
        wait_until(lambda: link.stopped, "half of the release has passed")
        link.cut()
        link.allow(float("inf"))
        take(receiver, 1)
    assert len(data) < receiver.requested_bytes <= len(data) + (MAX_UNDER_WAY + 1) * CHUNK_BYTES


def test_a_fetch_resumes_when_the_server_was_killed_in_the_middle(bench: Bench):
    data = make_release(1, padding_bytes=40 * CHUNK_BYTES)
    process, endpoint = bench.server_process(release=data)
    with MeteredLink(port_of(endpoint)) as link:
        link.allow(len(data) // 2)
        receiver = bench.receiver(link.endpoint)
        wait_until(lambda: link.stopped, "half of the release has passed")
        process.send_signal(signal.SIGKILL)
        process.wait()
        link.cut()
        link.allow(float("inf"))
        assert bench.server_process(endpoint)[1] == endpoint
        take(receiver, 1)
    assert len(data) < receiver.requested_bytes <= len(data) + (MAX_UNDER_WAY + 1) * CHUNK_BYTES


def test_the_last_good_release_is_there_after_a_restart_while_the_server_is_away(bench: Bench):
    server = bench.server()
    server.publish(make_release(4, bias=1.5))
    receiver = bench.receiver(server.endpoint)
    before = stay_score(take(receiver, 4))
    receiver.close()
    server.close()

    restarted = bench.receiver(server.endpoint)

    assert stay_score(take(restarted, 4)) == before


@pytest.mark.parametrize("damage", ["flipped byte", "truncated", "empty", "forged"])
def test_a_damaged_release_on_disk_is_refused_and_fetched_again(bench: Bench, damage: str):
    server = bench.server()
    data = make_release(4)
    server.publish(data)
    flipped = data[:200] + bytes([data[200] ^ 1]) + data[201:]
    state = bench.state()
    state.mkdir(parents=True)
    (state / "release").write_bytes(
        {
            "flipped byte": flipped,
            "truncated": data[:-1],
            "empty": b"",
            "forged": make_release(9, key=OTHER_KEY),
        }[damage]
    )

    receiver = bench.receiver(server.endpoint)

    take(receiver, 4)
    assert receiver.refused == 1
    assert (state / "release").read_bytes() == data


def _with_flipped_byte(data: bytes) -> bytes:
    return data[:300] + bytes([data[300] ^ 1]) + data[301:]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (make_release(2, key=OTHER_KEY), "not of the key"),
        (_with_flipped_byte(make_release(2)), "not of the key"),
        (make_release(2)[:-10], "not of the key"),
        (make_release(2, bias=float("nan")), "NaN"),
        (make_release(2, image_height_px=SIZE_PX + 1), "needs pictures of 8x9 px"),
        (
            pack_release(make_manifest(2), make_score_graph(), make_encode_graph(), SIGNING_KEY),
            "input",
        ),
    ],
    ids=["forged", "flipped byte", "truncated", "NaN weights", "another size", "other inputs"],
)
def test_a_bad_release_is_refused_once_and_the_last_good_one_stays(
    bench: Bench, bad: bytes, reason: str
):
    server = bench.server()
    server.publish(make_release(1))
    receiver = bench.receiver(server.endpoint)
    take(receiver, 1)

    _announce_unchecked(server, version=2, data=bad)
    wait_until(lambda: receiver.refused == 1, "the bad release is refused")
    assert reason in receiver.last_refusal
    server.publish(make_release(3))

    take(receiver, 3)
    assert receiver.refused == 1
    assert receiver.last_refusal == ""


def _announce_unchecked(server: ReleaseServer, version: int, data: bytes) -> None:
    """Do what a server that fell into wrong hands, or has a damaged memory, would do."""
    release = Release(
        manifest=make_manifest(version),
        encode_graph=b"",
        score_graph=b"",
        digest=hashlib.sha256(data[:-64]).hexdigest(),
    )
    server.catalogue.make_current(release, data)
    server._wakeup.set()


def test_a_receiver_that_has_nothing_to_do_for_long_ends_at_once(bench: Bench):
    receiver = bench.receiver("tcp://127.0.0.1:1", subscribe_every_s=3600.0)
    receiver.close()
    receiver.close()
    assert not receiver.alive


def test_an_older_release_is_refused(bench: Bench):
    server = bench.server()
    server.publish(make_release(5))
    receiver = bench.receiver(server.endpoint)
    take(receiver, 5)
    server.close()
    for path in (bench.folder / "releases").iterdir():
        path.unlink()
    other = bench.server(server.endpoint)
    other.publish(make_release(2))

    wait_until(lambda: receiver.refused == 1, "the older release is refused")

    assert "older than 5" in receiver.last_refusal
    assert receiver.take_newest() is None
    assert receiver.version == 5


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


WEIGHTS = bytes(50_000)


def test_a_robot_fetches_what_differs_from_the_release_it_has_and_keeps_the_whole(bench: Bench):
    server = bench.server()
    server.publish(make_similar_release(1, WEIGHTS))
    receiver = bench.receiver(server.endpoint)
    take(receiver, 1)
    for version in (2, 3):
        data = make_similar_release(version, WEIGHTS)
        server.publish(data)
        take(receiver, version)
        wait_until(lambda data=data: (bench.state() / "release").read_bytes() == data, "it is kept")
    assert receiver.requested_bytes < len(data) / 5
    assert receiver.refused == 0


def test_a_robot_that_was_off_fetches_a_packing_without_a_base(bench: Bench):
    server = bench.server()
    server.publish(make_similar_release(1, WEIGHTS))
    receiver = bench.receiver(server.endpoint)
    take(receiver, 1)
    receiver.close()
    for version in range(2, 9):
        server.publish(make_similar_release(version, WEIGHTS))
    back = bench.receiver(server.endpoint)
    wait_until(lambda: back.version == 8, "release 8 is ready")
    assert 0 < back.requested_bytes < len(WEIGHTS) / 5


@pytest.mark.parametrize("damage", ["of the packing", "of the base", "loss of the base"])
def test_what_does_not_come_out_of_its_packing_is_fetched_whole_and_that_is_said_once(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, damage: str
):
    server = bench.server()
    server.publish(make_similar_release(1, WEIGHTS))
    receiver = bench.receiver(server.endpoint)
    take(receiver, 1)
    kept = bench.state() / "release"
    wait_until(kept.exists, "the release is kept")
    if damage == "of the packing":
        monkeypatch.setattr(
            "learner.releases.packings.pack_release_file", lambda *_: b"not what was promised"
        )
    elif damage == "of the base":
        kept.write_bytes(make_similar_release(1, bytes([7]) * len(WEIGHTS)))
    else:
        kept.unlink()
    data = make_similar_release(2, WEIGHTS)
    server.publish(data)
    take(receiver, 2)
    assert receiver.requested_bytes > len(data)
    assert receiver.refused == 0
    assert len([line for line in caplog.messages if "does not come out" in line]) == 1
    wait_until(lambda: kept.read_bytes() == data, "the whole release is kept")


def test_a_robot_whose_release_is_another_of_the_same_version_fetches_a_file(bench: Bench):
    server = bench.server()
    receiver = bench.receiver(server.endpoint)
    server.publish(make_similar_release(1, WEIGHTS))
    take(receiver, 1)
    server.close()
    for path in (bench.folder / "releases").iterdir():
        path.unlink()
    other = bench.server(server.endpoint)
    other.publish(make_similar_release(1, bytes([7]) * len(WEIGHTS)))
    other.publish(make_similar_release(2, bytes([7]) * len(WEIGHTS)))
    take(receiver, 2)
    assert receiver.requested_bytes > len(WEIGHTS)


def test_a_fetch_of_a_packing_resumes_when_the_server_was_killed_in_the_middle(bench: Bench):
    noise = np.random.default_rng(0).integers(0, 16, 80 * CHUNK_BYTES, np.uint8).tobytes()
    base, data = make_similar_release(1, bytes(len(noise))), make_similar_release(2, noise)
    packed_bytes = len(pack_release_file(data, base))
    for version, file in ((1, base), (2, data)):
        path = bench.folder / "releases" / f"release-{version:010d}.gfrel"
        write_over(path, file, mode=0o644)
    write_over(bench.state() / "release", base, mode=0o644)
    process, endpoint = bench.server_process()
    with MeteredLink(port_of(endpoint)) as link:
        link.allow(packed_bytes // 2)
        receiver = bench.receiver(link.endpoint)
        wait_until(lambda: link.stopped, "half of the packing has passed")
        process.send_signal(signal.SIGKILL)
        process.wait()
        link.cut()
        link.allow(float("inf"))
        assert bench.server_process(endpoint)[1] == endpoint
        wait_until(lambda: receiver.version == 2, "release 2 is ready")
    most = packed_bytes + (MAX_UNDER_WAY + 1) * CHUNK_BYTES
    assert packed_bytes < receiver.requested_bytes <= most < len(data)


def test_a_download_is_abandoned_when_a_newer_release_is_announced(bench: Bench):
    server = bench.server()
    stale = make_release(1, padding_bytes=40 * CHUNK_BYTES)
    server.publish(stale)
    with MeteredLink(port_of(server.endpoint)) as link:
        link.allow(len(stale) // 2)
        receiver = bench.receiver(link.endpoint)
        wait_until(lambda: link.stopped, "half of the release has passed")
        fresh = make_release(2)
        server.publish(fresh)
        link.allow(float("inf"))
        take(receiver, 2)
    assert receiver.requested_bytes < len(stale)


def test_on_a_slow_network_every_second_release_is_finished(bench: Bench):
    server = bench.server()
    releases = {v: make_release(v, padding_bytes=40 * CHUNK_BYTES) for v in (1, 2, 3)}
    half = len(releases[1]) // 2
    server.publish(releases[1])
    with MeteredLink(port_of(server.endpoint)) as link:
        link.allow(half)
        receiver = bench.receiver(link.endpoint)
        for version in (2, 3):
            wait_until(lambda: link.stopped, "the allowance is used up")
            server.publish(releases[version])
            link.allow(half)
        seen = []
        wait_until(lambda: link.stopped or receiver.version == 2, "the network is slow again")
        link.allow(float("inf"))

        def newest_is_3() -> bool:
            newest = receiver.take_newest()
            seen.extend([newest.version] if newest else [])
            return receiver.version == 3

        wait_until(newest_is_3, "release 3 is ready")
    assert seen[0] == 2


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


def test_a_release_for_another_picture_size_is_refused_with_both_sizes(bench: Bench):
    server = bench.server()
    receiver = bench.receiver(server.endpoint)
    server.publish(make_release(1))
    take(receiver, 1)

    server.publish(make_release(2, image_width_px=SIZE_PX + 2))

    wait_until(lambda: receiver.refused == 1, "the release is refused")
    assert "needs pictures of 10x8 px, but this robot's camera gives 8x8" in receiver.trouble
    assert receiver.version == 1
    assert receiver.take_newest() is None
    server.publish(make_release(3))
    take(receiver, 3)
    assert receiver.trouble == ""


def test_a_release_that_hits_an_error_of_our_own_is_refused_once_and_said(bench: Bench):
    server = bench.server()
    receiver = bench.receiver(server.endpoint, calibration=None)
    server.publish(make_release(1))
    wait_until(lambda: receiver.refused == 1, "the release is refused")
    asked_for = receiver.requested_bytes

    server.publish(make_release(2))

    wait_until(lambda: receiver.refused == 2, "the next one is looked at")
    assert receiver.alive
    assert "release 2" in receiver.trouble
    assert receiver.requested_bytes == pytest.approx(2 * asked_for, rel=0.1)


def test_a_message_that_no_release_server_should_send_does_not_end_the_receiver(bench: Bench):
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.CURVE_SERVER, 1)
    router.setsockopt(zmq.CURVE_SECRETKEY, bench.server_keys.secret)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    try:
        receiver = bench.receiver(f"tcp://127.0.0.1:{port}")
        robot, _ = router.recv_multipart()
        router.send_multipart([robot, b""])
        router.send_multipart([robot, encode_message(Chunk(version=1, offset=0))])
        router.send_multipart([robot, b"", b"", b""])
        for _ in range(3):
            router.recv_multipart()  # its keep-alives go on
        assert receiver.alive
        assert receiver.trouble == ""
    finally:
        router.close(linger=0)
        context.term()


def test_a_refusal_that_says_nothing_of_the_release_keeps_what_has_arrived_and_is_said_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
):
    data = make_release(1, padding_bytes=2 * CHUNK_BYTES)
    announcement = encode_message(
        ReleaseAnnouncement(
            version=1, digest=hashlib.sha256(data[:-64]).digest(), size_bytes=len(data)
        )
    )
    haste = encode_message(Refusal(code="rate", reason="too many requests"))
    asked: list[int] = []
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.CURVE_SECRETKEY, bench.server_keys.secret)
        router.setsockopt(zmq.LINGER, 0)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        receiver = bench.receiver(f"tcp://127.0.0.1:{port}")
        while receiver.version == 0:
            robot, header = router.recv_multipart()
            message = decode_message(header, ToReleaseServer)
            if not isinstance(message, ChunkRequest):
                router.send_multipart([robot, announcement])
                continue
            asked.append(message.offset)
            if message.offset > 0 and len(asked) < 4:
                router.send_multipart([robot, haste])
                wait_until(lambda: "too many requests" in receiver.trouble, "it says so")
                continue
            chunk = Chunk(version=1, offset=message.offset)
            body = data[message.offset : message.offset + message.length]
            router.send_multipart([robot, encode_message(chunk), body])
        receiver.close()
    assert asked.count(0) == 1
    assert len([line for line in caplog.messages if "too many requests" in line]) == 1


def test_a_refusal_about_an_abandoned_release_does_not_end_the_download_of_its_successor(
    bench: Bench,
):
    files = {version: make_release(version, padding_bytes=8 * CHUNK_BYTES) for version in (1, 2)}
    gone = Refusal(code="release-not-served", reason="release 1 is not served (any more)")
    asked: list[int] = []
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.CURVE_SECRETKEY, bench.server_keys.secret)
        router.setsockopt(zmq.LINGER, 0)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        receiver = bench.receiver(f"tcp://127.0.0.1:{port}", subscribe_every_s=30.0)
        robot, _ = router.recv_multipart()
        for version in (1, 2):
            router.send_multipart([robot, encode_message(announcement_of(version, files))])
        router.send_multipart([robot, encode_message(gone)])
        while receiver.version == 0 and router.poll(5_000):
            request = decode_message(router.recv_multipart()[1], ToReleaseServer)
            if isinstance(request, ChunkRequest) and request.version == 2:
                asked.append(request.offset)
                chunk = Chunk(version=2, offset=request.offset)
                body = files[2][request.offset : request.offset + request.length]
                router.send_multipart([robot, encode_message(chunk), body])
        take(receiver, 2)
        receiver.close()
    assert asked == list(range(0, len(files[2]), CHUNK_BYTES))


def test_a_release_that_came_in_full_and_was_refused_counts_as_finished(bench: Bench):
    files = {each: make_release(each, padding_bytes=8 * CHUNK_BYTES) for each in (1, 2, 3, 4)}
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.CURVE_SECRETKEY, bench.server_keys.secret)
        router.setsockopt(zmq.LINGER, 0)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        receiver = bench.receiver(f"tcp://127.0.0.1:{port}", subscribe_every_s=30.0)
        robot, _ = router.recv_multipart()
        for version in (1, 2):
            router.send_multipart([robot, encode_message(announcement_of(version, files))])
        for offset in range(0, len(files[2]), CHUNK_BYTES):
            body = bytes(len(files[2][offset : offset + CHUNK_BYTES]))
            router.send_multipart([robot, encode_message(Chunk(version=2, offset=offset)), body])
        wait_until(lambda: receiver.refused == 1, "release 2 is no release")
        for version in (3, 4):
            router.send_multipart([robot, encode_message(announcement_of(version, files))])
        asked = set()
        while 4 not in asked and router.poll(5_000):
            request = decode_message(router.recv_multipart()[1], ToReleaseServer)
            asked.add(getattr(request, "version", 0))
        receiver.close()
    assert 4 in asked, "release 3 is abandoned for it"


def announcement_of(version: int, files: dict[int, bytes]) -> ReleaseAnnouncement:
    digest = hashlib.sha256(files[version][:-64]).digest()
    return ReleaseAnnouncement(version=version, digest=digest, size_bytes=len(files[version]))


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


def test_a_full_disk_does_not_keep_a_release_from_use_and_is_not_filled_further(bench: Bench):
    bench.state().parent.mkdir()
    with small_disk(bench.state(), megabytes=1) as state:
        server = bench.server()
        receiver = bench.receiver(server.endpoint)
        server.publish(make_release(1))
        take(receiver, 1)
        kept = (state / "release").read_bytes()

        server.publish(make_release(2, padding_bytes=2**20))

        take(receiver, 2)
        assert (state / "release").read_bytes() == kept
        assert sorted(path.name for path in state.iterdir()) == ["ballast", "release"]
        receiver.close()
