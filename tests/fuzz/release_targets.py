"""Release files behind their signature, the graphs in them, and their way in chunks.

Nobody without the signing key gets this far; but a learner that was broken into has it.
"""

from __future__ import annotations

import hashlib
import json
import struct
from random import Random

from protocol.errors import RejectedReleaseError
from protocol.messages import Chunk, ReleaseAnnouncement
from protocol.release import MAGIC, unpack_release
from protocol.release_manifest import RefinedMap
from protocol.release_packing import pack_release_file, unpack_release_file
from robot_agent.policy.graph_contents import check_graph_contents
from robot_agent.policy.graph_session import GraphSession
from robot_agent.policy.q_function import ENCODE_INPUTS
from robot_agent.releases.download import ReleaseDownload
from tests.fuzz.byte_mutation import mutate_bytes
from tests.fuzz.fuzz_target import FuzzTarget, Run
from tests.fuzz.tree_mutation import mutate_json
from tests.releases import (
    SIGNING_KEY,
    make_encode_graph,
    make_release,
    make_score_graph,
    make_similar_release,
)

_SIGNATURE_BYTES = 64
_HEAD = struct.Struct("<8sI")


def _prepare_release() -> Run:
    verify_key = SIGNING_KEY.public_key()

    def run(body: bytes) -> str:
        signed = body + SIGNING_KEY.sign(hashlib.sha256(body).digest())
        release = unpack_release(signed, verify_key)
        manifest = release.manifest
        assert len(release.encode_graph) == manifest.encode_bytes
        assert len(release.score_graph) == manifest.score_bytes
        check_graph_contents(release.encode_graph, "encode")
        check_graph_contents(release.score_graph, "score")
        return f"release with {len(manifest.hand_eye_maps)} maps, {len(manifest.metrics)} metrics"

    return run


def _release_bodies() -> list[bytes]:
    refined = RefinedMap(calibration_digest="ab" * 32, matrix=[1.0] * 12)
    releases = [
        make_release(1),
        make_release(2, metrics={"loss": 0.25}, software={"torch": "2"}),
        make_release(3, hand_eye_maps={"arm": refined}),
    ]
    return [release[:-_SIGNATURE_BYTES] for release in releases]


def _mutate_release(body: bytes, random: Random) -> bytes:
    _, length = _HEAD.unpack_from(body) if len(body) >= _HEAD.size else (b"", 0)
    manifest, graphs = body[_HEAD.size : _HEAD.size + length], body[_HEAD.size + length :]
    if random.random() < 0.6:
        manifest = mutate_json(manifest, random)
    else:
        sizes = json.loads(manifest)
        cut = int(sizes["encode_bytes"])
        parts = [graphs[:cut], graphs[cut:]]
        at = random.randrange(2)
        parts[at] = mutate_bytes(parts[at], random)
        sizes |= {"encode_bytes": len(parts[0]), "score_bytes": len(parts[1])}
        manifest, graphs = json.dumps(sizes).encode(), b"".join(parts)
    return _HEAD.pack(MAGIC, len(manifest)) + manifest + graphs


def _prepare_graph() -> Run:
    def run(model: bytes) -> str:
        GraphSession("encode", model, ENCODE_INPUTS, "features")
        return "loaded"

    return run


def _prepare_download() -> Run:
    def run(data: bytes) -> str:
        download = _begin(data)
        size_bytes = download.announcement.size_bytes
        for piece in data[5:].split(b"|"):
            for request in download.requests_due():
                assert 0 < request.length <= 16
                assert request.offset + request.length <= size_bytes
            offset = piece[0] if piece else 0
            download.accept(Chunk(version=1 + offset // 200, offset=offset % 200), piece[1:])
            assert download.received_bytes <= size_bytes
        return f"complete {download.complete}, {min(8, download.received_bytes.bit_length())}"

    return run


def _prepare_packing() -> Run:
    base = make_similar_release(1, bytes(4_000))
    size_bytes = len(make_similar_release(2, bytes(4_000)))

    def run(packed: bytes) -> str:
        found = unpack_release_file(packed, size_bytes, base)
        assert len(found) == size_bytes
        return "unpacked"

    return run


def _packings() -> list[bytes]:
    base, data = (make_similar_release(version, bytes(4_000)) for version in (1, 2))
    return [pack_release_file(data, base), pack_release_file(data)]


def _begin(data: bytes) -> ReleaseDownload:
    if len(data) < 5:
        raise RejectedReleaseError("too short to announce anything")
    size_bytes = 1 + int.from_bytes(data[:4], "little") % 2**31 if data[4] & 1 else 1 + data[0]
    announcement = ReleaseAnnouncement(version=1, digest=bytes(32), size_bytes=size_bytes)
    return ReleaseDownload(announcement, 16)


RELEASE_TARGETS = [
    FuzzTarget(
        name="release_file",
        prepare=_prepare_release,
        seeds=_release_bodies,
        mutate=_mutate_release,
        share=2.0,
    ),
    FuzzTarget(
        name="graph_session",
        prepare=_prepare_graph,
        seeds=lambda: [make_encode_graph(), make_score_graph()],
        mutate=mutate_bytes,
        memory_mb=1024,
        share=0.5,
    ),
    FuzzTarget(
        name="release_packing",
        prepare=_prepare_packing,
        seeds=_packings,
        mutate=mutate_bytes,
        share=0.5,
    ),
    FuzzTarget(
        name="release_download",
        prepare=_prepare_download,
        seeds=lambda: [b"\x04\0\0\0\0\0ab|\x02cd", b"\xff\xff\xff\xff\x01\0abc"],
        mutate=mutate_bytes,
        max_bytes=4096,
        share=0.5,
    ),
]
