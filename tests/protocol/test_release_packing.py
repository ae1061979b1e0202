"""The packing of a release file: the same bytes come out, or nothing does."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import RejectedReleaseError
from protocol.release import pack_release
from protocol.release_packing import MAX_UNPACKED_BYTES, pack_release_file, unpack_release_file
from tests.releases import SIGNING_KEY, make_manifest

WEIGHTS = np.random.default_rng(0).normal(size=20_000).astype(np.float32)


def release(version: int, weights: np.ndarray = WEIGHTS, **changes: object) -> bytes:
    """Return a release whose one graph is nothing but weights of two bytes each."""
    halves = (weights.view(np.uint32) >> 16).astype(np.uint16)
    manifest = make_manifest(version, **changes)
    return pack_release(manifest, b"encode", halves.tobytes(), SIGNING_KEY)


BASE = release(1)
NEXT = release(2, WEIGHTS * np.float32(1.001), metrics={"step": 10.0})


@pytest.mark.parametrize("base", [b"", BASE, NEXT], ids=["alone", "the one before", "itself"])
def test_what_is_packed_comes_out(base: bytes):
    packed = pack_release_file(NEXT, base)
    assert unpack_release_file(packed, len(NEXT), base) == NEXT


def test_a_packing_against_the_release_before_is_a_small_part_of_the_file():
    assert len(pack_release_file(NEXT)) < 0.9 * len(NEXT)
    assert len(pack_release_file(NEXT, BASE)) < 0.2 * len(NEXT)


@given(graph=st.binary(max_size=200), base_graph=st.binary(max_size=200), version=st.integers(1))
def test_any_two_releases_of_one_size_pack_and_come_out(
    graph: bytes, base_graph: bytes, version: int
):
    sizes = min(len(graph), len(base_graph)) + 1
    data, base = (
        pack_release(make_manifest(number), one[:sizes].ljust(sizes), b"s", SIGNING_KEY)
        for number, one in ((version, graph), (1, base_graph))
    )
    assert unpack_release_file(pack_release_file(data, base), len(data), base) == data


@pytest.mark.parametrize("base", [release(1, WEIGHTS[:-2]), b"no release at all", NEXT[:70]])
def test_a_base_that_does_not_fit_is_refused_on_both_sides(base: bytes):
    with pytest.raises(RejectedReleaseError):
        pack_release_file(NEXT, base)
    with pytest.raises(RejectedReleaseError):
        unpack_release_file(pack_release_file(NEXT, BASE), len(NEXT), base)


def test_another_base_of_the_same_size_gives_other_bytes_or_none():
    packed = pack_release_file(NEXT, BASE)
    other = release(1, WEIGHTS * np.float32(2.0))
    assert unpack_release_file(packed, len(NEXT), other) != NEXT
    with pytest.raises(RejectedReleaseError):
        unpack_release_file(packed, len(NEXT))


@pytest.mark.parametrize("size_bytes", [len(NEXT) - 1, len(NEXT) + 1, 1, MAX_UNPACKED_BYTES + 1])
def test_another_size_than_announced_is_refused(size_bytes: int):
    with pytest.raises(RejectedReleaseError):
        unpack_release_file(pack_release_file(NEXT), size_bytes)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        pack_release_file(NEXT)[:-1],
        pack_release_file(NEXT) + b"more",
        zlib.compress(b"head"),
        zlib.compress(bytes(2**26)) + zlib.compress(b"rest"),
        zlib.compress(b"head") + zlib.compress(bytes(2**26)),
    ],
    ids=["empty", "cut", "too long", "half", "a bomb for a head", "a bomb for the rest"],
)
def test_what_is_no_packing_is_refused_before_it_fills_the_memory(packed: bytes):
    with pytest.raises(RejectedReleaseError):
        unpack_release_file(packed, len(NEXT))


def test_a_release_above_the_limit_is_not_packed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("protocol.release_packing.MAX_UNPACKED_BYTES", len(NEXT) - 1)
    with pytest.raises(RejectedReleaseError, match="exceeds"):
        pack_release_file(NEXT)
