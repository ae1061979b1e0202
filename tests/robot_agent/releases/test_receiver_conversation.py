"""The receiver and a server that says whatever a test wants said."""

from __future__ import annotations

import hashlib

import pytest
import zmq

from protocol.codec import decode_message, encode_message
from protocol.messages import (
    Chunk,
    ChunkRequest,
    Refusal,
    ReleaseAnnouncement,
    ToReleaseServer,
)
from tests.release_bench import CHUNK_BYTES, Bench, take
from tests.releases import make_release
from tests.silent_server import silent_server
from tests.waiting import wait_until


def announce(router: zmq.Socket[bytes], robot: bytes, version: int, data: bytes) -> None:
    digest = hashlib.sha256(data[:-64]).digest()
    message = ReleaseAnnouncement(version=version, digest=digest, size_bytes=len(data))
    router.send_multipart([robot, encode_message(message)])


def answer(router: zmq.Socket[bytes], robot: bytes, request: ChunkRequest, data: bytes) -> None:
    chunk = Chunk(version=request.version, offset=request.offset)
    body = data[request.offset : request.offset + request.length]
    router.send_multipart([robot, encode_message(chunk), body])


def test_a_message_that_no_release_server_should_send_does_not_end_the_receiver(bench: Bench):
    with silent_server(bench.server_keys) as router:
        receiver = bench.receiver(router.last_endpoint.decode())
        robot, _ = router.recv_multipart()
        router.send_multipart([robot, b""])
        router.send_multipart([robot, encode_message(Chunk(version=1, offset=0))])
        router.send_multipart([robot, b"", b"", b""])
        for _ in range(3):
            router.recv_multipart()  # its keep-alives go on
        assert receiver.alive
        assert receiver.trouble == ""


def test_a_refusal_that_says_nothing_of_the_release_keeps_what_has_arrived_and_is_said_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
):
    data = make_release(1, padding_bytes=2 * CHUNK_BYTES)
    haste = encode_message(Refusal(code="rate", reason="too many requests"))
    asked: list[int] = []
    with silent_server(bench.server_keys) as router:
        receiver = bench.receiver(router.last_endpoint.decode())
        while receiver.version == 0:
            robot, header = router.recv_multipart()
            message = decode_message(header, ToReleaseServer)
            if not isinstance(message, ChunkRequest):
                announce(router, robot, 1, data)
                continue
            asked.append(message.offset)
            if message.offset > 0 and len(asked) < 4:
                router.send_multipart([robot, haste])
                wait_until(lambda: "too many requests" in receiver.trouble, "it says so")
                continue
            answer(router, robot, message, data)
        receiver.close()
    assert asked.count(0) == 1
    assert len([line for line in caplog.messages if "too many requests" in line]) == 1


def test_a_refusal_about_an_abandoned_release_does_not_end_the_download_of_its_successor(
    bench: Bench,
):
    files = {version: make_release(version, padding_bytes=8 * CHUNK_BYTES) for version in (1, 2)}
    gone = Refusal(code="release-not-served", reason="release 1 is not served (any more)")
    asked: list[int] = []
    with silent_server(bench.server_keys) as router:
        receiver = bench.receiver(router.last_endpoint.decode(), subscribe_every_s=30.0)
        robot, _ = router.recv_multipart()
        for version in (1, 2):
            announce(router, robot, version, files[version])
        router.send_multipart([robot, encode_message(gone)])
        while receiver.version == 0 and router.poll(5_000):
            request = decode_message(router.recv_multipart()[1], ToReleaseServer)
            if isinstance(request, ChunkRequest) and request.version == 2:
                asked.append(request.offset)
                answer(router, robot, request, files[2])
        take(receiver, 2)
        receiver.close()
    assert asked == list(range(0, len(files[2]), CHUNK_BYTES))


def test_a_release_that_came_in_full_and_was_refused_counts_as_finished(bench: Bench):
    files = {each: make_release(each, padding_bytes=8 * CHUNK_BYTES) for each in (1, 2, 3, 4)}
    with silent_server(bench.server_keys) as router:
        receiver = bench.receiver(router.last_endpoint.decode(), subscribe_every_s=30.0)
        robot, _ = router.recv_multipart()
        for version in (1, 2):
            announce(router, robot, version, files[version])
        for offset in range(0, len(files[2]), CHUNK_BYTES):
            body = bytes(len(files[2][offset : offset + CHUNK_BYTES]))
            router.send_multipart([robot, encode_message(Chunk(version=2, offset=offset)), body])
        wait_until(lambda: receiver.refused == 1, "release 2 is no release")
        for version in (3, 4):
            announce(router, robot, version, files[version])
        asked = set()
        while 4 not in asked and router.poll(5_000):
            request = decode_message(router.recv_multipart()[1], ToReleaseServer)
            asked.add(getattr(request, "version", 0))
        receiver.close()
    assert 4 in asked, "release 3 is abandoned for it"
