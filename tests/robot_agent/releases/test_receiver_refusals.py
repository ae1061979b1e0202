"""Releases that a robot must not use: refused once, said, and the last good one stays."""

from __future__ import annotations

import hashlib

import pytest

from learner.releases.server import ReleaseServer
from protocol.release import Release, pack_release
from tests.release_bench import Bench, take
from tests.releases import (
    OTHER_KEY,
    SIGNING_KEY,
    SIZE_PX,
    make_encode_graph,
    make_manifest,
    make_release,
    make_score_graph,
)
from tests.waiting import wait_until


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
