"""The release file: what is packed comes out, what was touched does not."""

from __future__ import annotations

import hashlib
import struct

import msgspec
import pytest

from protocol.errors import RejectedReleaseError
from protocol.release import (
    MAGIC,
    RANDOM_POLICY_DIGEST,
    pack_release,
    policy_digest,
    unpack_release,
)
from protocol.release_manifest import RefinedMap, SearchSettings
from tests.releases import (
    CALIBRATION,
    OTHER_KEY,
    SIGNING_KEY,
    make_manifest,
    make_release,
    refined_map,
)

VERIFY_KEY = SIGNING_KEY.public_key()


def small_release(**changes: object) -> bytes:
    return pack_release(make_manifest(**changes), b"encode graph", b"score", SIGNING_KEY)


def signed(body: bytes) -> bytes:
    return body + SIGNING_KEY.sign(hashlib.sha256(body).digest())


def test_a_packed_release_comes_out_as_it_went_in():
    maps = {"robot-1": RefinedMap(calibration_digest="ab", matrix=[0.5] * 12, warning="odd")}
    data = small_release(version=7, hand_eye_maps=maps, metrics={"auc": 0.8})

    release = unpack_release(data, VERIFY_KEY)

    assert release.manifest.version == 7
    assert release.manifest.hand_eye_maps == maps
    assert release.manifest.metrics == {"auc": 0.8}
    assert (release.encode_graph, release.score_graph) == (b"encode graph", b"score")
    assert (release.manifest.encode_bytes, release.manifest.score_bytes) == (12, 5)
    assert release.digest == hashlib.sha256(data[:-64]).hexdigest()


def test_a_manifest_that_says_more_than_is_known_here_is_read_for_what_is_known():
    data = small_release(version=7)
    (length,) = struct.unpack_from("<I", data, 8)
    manifest = msgspec.json.decode(data[12 : 12 + length])
    manifest["for_later_agents"] = {"any": ["thing"]}
    manifest["search"]["patience"] = 3
    encoded = msgspec.json.encode(manifest)
    body = data[:8] + struct.pack("<I", len(encoded)) + encoded + data[12 + length : -64]

    release = unpack_release(signed(body), VERIFY_KEY)

    assert release.manifest == unpack_release(data, VERIFY_KEY).manifest


def test_a_flip_of_any_single_byte_is_refused():
    data = small_release()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x20
        with pytest.raises(RejectedReleaseError):
            unpack_release(bytes(damaged), VERIFY_KEY)


def test_every_truncation_and_an_extra_byte_are_refused():
    data = small_release()
    for length in range(len(data)):
        with pytest.raises(RejectedReleaseError):
            unpack_release(data[:length], VERIFY_KEY)
    with pytest.raises(RejectedReleaseError, match="signature"):
        unpack_release(data + b"\0", VERIFY_KEY)


def test_a_release_signed_by_another_key_is_refused():
    with pytest.raises(RejectedReleaseError, match="not of the key"):
        unpack_release(make_release(key=OTHER_KEY), VERIFY_KEY)


def test_a_signed_file_with_a_manifest_longer_than_the_file_is_refused():
    with pytest.raises(RejectedReleaseError, match="manifest of 4294967295 bytes"):
        unpack_release(signed(MAGIC + struct.pack("<I", 2**32 - 1) + b"{}"), VERIFY_KEY)


def test_a_signed_file_whose_graphs_have_other_sizes_is_refused():
    with pytest.raises(RejectedReleaseError, match="18 bytes of graphs"):
        unpack_release(signed(small_release()[:-64] + b"!"), VERIFY_KEY)


@pytest.mark.parametrize(
    "manifest", [b"not json", b"{}", b"[" * 10_000, b"\xff\xfe", b'{"version\xff": 1}']
)
def test_a_signed_file_without_a_proper_manifest_is_refused(manifest: bytes):
    with pytest.raises(RejectedReleaseError, match="manifest"):
        unpack_release(signed(MAGIC + struct.pack("<I", len(manifest)) + manifest), VERIFY_KEY)


@pytest.mark.parametrize("changes", [{"version": 0}, {"search": SearchSettings(samples=1)}])
def test_a_manifest_out_of_range_is_refused_before_it_is_signed(changes: dict[str, object]):
    with pytest.raises(RejectedReleaseError, match="manifest refused"):
        small_release(**changes)


def test_the_policy_digest_names_all_that_decides_and_nothing_else():
    def digest(data: bytes, hand_eye_map=CALIBRATION, joints="") -> str:
        return policy_digest(unpack_release(data, VERIFY_KEY), hand_eye_map, joints)

    same = digest(make_release(version=1))
    digests = {
        same,
        digest(make_release(bias=0.2)),
        digest(make_release(), refined_map()),
        digest(make_release(search=SearchSettings(samples=65))),
        digest(make_release(image_height_px=9)),
        digest(make_release(), joints="ab" * 32),
        digest(make_release(), joints="ac" * 32),
        RANDOM_POLICY_DIGEST,
    }

    assert len(digests) == 8
    assert digest(make_release(version=2, metrics={"auc": 0.9})) == same
