"""What a robot fetches: resumed after cuts and kills, abandoned for what is newer."""

from __future__ import annotations

import subprocess

import numpy as np

from protocol.key_files import write_over
from protocol.release_packing import pack_release_file
from robot_agent.releases.download import MAX_UNDER_WAY
from robot_agent.releases.receiver import ReleaseReceiver
from tests.metered_link import MeteredLink
from tests.release_bench import CHUNK_BYTES, Bench, take
from tests.releases import make_release, make_similar_release
from tests.waiting import wait_until


def fetch_half(bench: Bench, link: MeteredLink, size_bytes: int) -> ReleaseReceiver:
    """Start a robot; return its receiver when half of so many bytes have passed, and no more do."""
    link.allow(size_bytes // 2)
    receiver = bench.receiver(link.endpoint)
    wait_until(lambda: link.stopped, "half of it has passed")
    return receiver


def kill_in_the_middle(server: subprocess.Popen[str], link: MeteredLink) -> None:
    """Kill the server, and let pass what another one sends."""
    server.kill()
    server.wait()
    link.cut()
    link.allow(float("inf"))


def test_a_fetch_resumes_where_it_was_when_the_connection_is_cut(bench: Bench):
    server = bench.server()
    data = make_release(1, padding_bytes=40 * CHUNK_BYTES)
    server.publish(data)
    with MeteredLink(server.endpoint) as link:
        receiver = fetch_half(bench, link, len(data))
        link.cut()
        link.allow(float("inf"))
        take(receiver, 1)
    assert len(data) < receiver.requested_bytes <= len(data) + (MAX_UNDER_WAY + 1) * CHUNK_BYTES


def test_a_fetch_resumes_when_the_server_was_killed_in_the_middle(bench: Bench):
    data = make_release(1, padding_bytes=40 * CHUNK_BYTES)
    process, endpoint = bench.server_process(release=data)
    with MeteredLink(endpoint) as link:
        receiver = fetch_half(bench, link, len(data))
        kill_in_the_middle(process, link)
        assert bench.server_process(endpoint)[1] == endpoint
        take(receiver, 1)
    assert len(data) < receiver.requested_bytes <= len(data) + (MAX_UNDER_WAY + 1) * CHUNK_BYTES


def test_a_fetch_of_a_packing_resumes_when_the_server_was_killed_in_the_middle(bench: Bench):
    noise = np.random.default_rng(0).integers(0, 16, 80 * CHUNK_BYTES, np.uint8).tobytes()
    base, data = make_similar_release(1, bytes(len(noise))), make_similar_release(2, noise)
    packed_bytes = len(pack_release_file(data, base))
    for version, file in ((1, base), (2, data)):
        path = bench.folder / "releases" / f"release-{version:010d}.gfrel"
        write_over(path, file, mode=0o644)
    write_over(bench.state() / "release", base, mode=0o644)
    process, endpoint = bench.server_process()
    with MeteredLink(endpoint) as link:
        receiver = fetch_half(bench, link, packed_bytes)
        kill_in_the_middle(process, link)
        assert bench.server_process(endpoint)[1] == endpoint
        wait_until(lambda: receiver.version == 2, "release 2 is ready")
    most = packed_bytes + (MAX_UNDER_WAY + 1) * CHUNK_BYTES
    assert packed_bytes < receiver.requested_bytes <= most < len(data)


def test_a_download_is_abandoned_when_a_newer_release_is_announced(bench: Bench):
    server = bench.server()
    stale = make_release(1, padding_bytes=40 * CHUNK_BYTES)
    server.publish(stale)
    with MeteredLink(server.endpoint) as link:
        receiver = fetch_half(bench, link, len(stale))
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
    with MeteredLink(server.endpoint) as link:
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
