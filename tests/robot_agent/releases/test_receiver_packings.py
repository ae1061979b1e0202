"""Packings: what a robot fetches instead of a whole release, and when it does not."""

from __future__ import annotations

import pytest

from tests.release_bench import Bench, take
from tests.releases import make_similar_release
from tests.waiting import wait_until

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
