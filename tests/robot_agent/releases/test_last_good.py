"""The release that a robot keeps on its disk and goes on with after a restart."""

from __future__ import annotations

import pytest

from tests.disks import small_disk
from tests.release_bench import Bench, stay_score, take
from tests.releases import OTHER_KEY, make_release


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
