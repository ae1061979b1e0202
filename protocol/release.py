"""The release file: a signed manifest and the two graphs of a trained policy.

    magic (8 bytes) | manifest length (u32, little-endian) | manifest (JSON)
    | encode graph (ONNX) | score graph (ONNX) | Ed25519 signature (64 bytes)

The signature is over the sha256 of everything before it; that sha256 is the release's digest.
Nothing of a file is read, beyond finding its signature, until the signature has been verified.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol.errors import RejectedReleaseError
from protocol.hand_eye import HandEyeMap
from protocol.release_manifest import ReleaseManifest

MAGIC = b"GFREL\x01\r\n"
"""The line end shows a transfer that mangled the file as text."""
MAX_RELEASE_BYTES = 512 * 2**20
RANDOM_POLICY_DIGEST = hashlib.sha256(b"graspfleet random policy").hexdigest()
"""Policy digest of attempts that no network made: random ones, with or without a release."""

_MAX_MANIFEST_BYTES = 4 * 2**20
_LENGTH = struct.Struct("<I")
_SIGNATURE_BYTES = 64
# Made here, not at the first use, where two threads could meet: see the end of protocol.messages.
_manifest_decoder = msgspec.json.Decoder(ReleaseManifest)
_HEAD_BYTES = len(MAGIC) + _LENGTH.size
MAX_HEAD_BYTES = _HEAD_BYTES + _MAX_MANIFEST_BYTES
"""Of what stands before the graphs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """A verified release."""

    manifest: ReleaseManifest
    encode_graph: bytes
    """ONNX model ``encode(first_image, image) -> features``."""
    score_graph: bytes
    """ONNX model ``score(features, pose, hand_eye_map, actions) -> success``."""
    digest: str
    """sha256 hex of everything that is signed."""


def pack_release(
    manifest: ReleaseManifest,
    encode_graph: bytes,
    score_graph: bytes,
    signing_key: Ed25519PrivateKey,
) -> bytes:
    """Return a release file; the manifest's graph sizes are set from the graphs.

    Raises:
        RejectedReleaseError: the manifest is out of range, or the file would be too large.
    """
    manifest = msgspec.structs.replace(
        manifest, encode_bytes=len(encode_graph), score_bytes=len(score_graph)
    )
    encoded = msgspec.json.encode(manifest)
    # msgspec checks ranges when it decodes only; a robot must never be the first to notice.
    _decode_manifest(encoded)
    body = b"".join([MAGIC, _LENGTH.pack(len(encoded)), encoded, encode_graph, score_graph])
    _check_size(len(body) + _SIGNATURE_BYTES)
    return body + signing_key.sign(hashlib.sha256(body).digest())


def unpack_release(data: bytes, verify_key: Ed25519PublicKey) -> Release:
    """Verify a release file and take it apart.

    Raises:
        RejectedReleaseError: wrong size, magic, signature, manifest, or graph sizes.
    """
    _check_size(len(data))
    if not data.startswith(MAGIC):
        raise RejectedReleaseError(
            f"this is no release file: it begins with {data[: len(MAGIC)]!r}, not with {MAGIC!r}"
        )
    body = memoryview(data)[:-_SIGNATURE_BYTES]
    digest = hashlib.sha256(body)
    try:
        verify_key.verify(data[-_SIGNATURE_BYTES:], digest.digest())
    except InvalidSignature as error:
        raise RejectedReleaseError(
            f"release {digest.hexdigest()[:12]}: the signature over its {len(body)} bytes is not"
            " of the key this side trusts: damaged on the way, forged, or signed by another learner"
        ) from error
    encoded, graphs = _split(body)
    manifest = _decode_manifest(encoded)
    if manifest.encode_bytes + manifest.score_bytes != len(graphs):
        raise RejectedReleaseError(
            f"release {manifest.version}: {len(graphs)} bytes of graphs, but its manifest says"
            f" {manifest.encode_bytes} + {manifest.score_bytes}"
        )
    return Release(
        manifest=manifest,
        encode_graph=bytes(graphs[: manifest.encode_bytes]),
        score_graph=bytes(graphs[manifest.encode_bytes :]),
        digest=digest.hexdigest(),
    )


def head_bytes(data: bytes) -> int:
    """Return where the graphs of a release file begin; the file need not be verified.

    Raises:
        RejectedReleaseError: it is too short to have any, or its manifest too long.
    """
    _check_size(len(data))
    encoded, _ = _split(memoryview(data)[:-_SIGNATURE_BYTES])
    return _HEAD_BYTES + len(encoded)


def policy_digest(release: Release, hand_eye_map: HandEyeMap, joint_calibration: str = "") -> str:
    """Return sha256 hex over graphs, preprocessing, search settings and the calibration in use.

    Two attempts with the same digest were decided by the same function of what was seen.

    Args:
        release: what decides.
        hand_eye_map: in use, refined or not.
        joint_calibration: sha256 hex of what was measured of joints and gripper; "" for a robot
            that needs no such thing.
    """
    manifest = release.manifest
    preprocessing = {"height_px": manifest.image_height_px, "width_px": manifest.image_width_px}
    parts = [
        release.encode_graph,
        release.score_graph,
        msgspec.json.encode(preprocessing, order="sorted"),
        bytes.fromhex(hand_eye_map.digest()),
        msgspec.json.encode(manifest.search, order="sorted"),
    ]
    if joint_calibration:
        parts.append(bytes.fromhex(joint_calibration))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _check_size(size_bytes: int) -> None:
    least = _HEAD_BYTES + _SIGNATURE_BYTES
    if not least <= size_bytes <= MAX_RELEASE_BYTES:
        raise RejectedReleaseError(
            f"release: {size_bytes} bytes is outside {least} to {MAX_RELEASE_BYTES}"
        )


def _split(body: memoryview) -> tuple[memoryview, memoryview]:
    """Return the encoded manifest and the graphs."""
    (length,) = _LENGTH.unpack_from(body, len(MAGIC))
    limit = min(_MAX_MANIFEST_BYTES, len(body) - _HEAD_BYTES)
    if length > limit:
        raise RejectedReleaseError(f"release: a manifest of {length} bytes exceeds {limit}")
    end = _HEAD_BYTES + length
    return body[_HEAD_BYTES:end], body[end:]


def _decode_manifest(encoded: bytes | memoryview) -> ReleaseManifest:
    if len(encoded) > _MAX_MANIFEST_BYTES:
        raise RejectedReleaseError(
            f"release: a manifest of {len(encoded)} bytes exceeds {_MAX_MANIFEST_BYTES}"
        )
    try:
        return _manifest_decoder.decode(encoded)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        # ValueError: msgspec lets a text that is not UTF-8 through as Python's own error.
        raise RejectedReleaseError(f"release: manifest refused: {error}") from error
