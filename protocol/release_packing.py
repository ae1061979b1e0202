"""A smaller form of a release file for the way to a robot, from which the same bytes come back.

    zlib stream: magic, manifest length and manifest
    | zlib stream: the rest of the file, bytes of even places first, then those of odd places

What follows the manifest is mostly weights of two bytes each. Their upper bytes say little and
their lower bytes much; apart from each other each kind is coded for what it holds. Against a base,
a release that the robot has, only the differences of the bytes (modulo 256) are packed, and the
base's manifest is the first stream's preset dictionary: from one release to the next most weights
move by a step or two of their last bit, and the graphs themselves not at all.

The file that comes out is verified like any other: a packing needs no signature of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng as zlib  # zlib's streams in a third of its time

from protocol.errors import RejectedReleaseError
from protocol.release import MAX_HEAD_BYTES, head_bytes

MAX_UNPACKED_BYTES = 64 * 2**20
"""A larger release travels as it is: few bytes must not be able to fill a robot's memory."""

_DICTIONARY_BYTES = 32_768
"""What zlib can look back on."""


def pack_release_file(data: bytes, base: bytes = b"") -> bytes:
    """Return the packing of a release file, against the file ``base`` if that is given.

    Raises:
        RejectedReleaseError: it is too large, or no release of the base's size but for its
            manifest.
    """
    if len(data) > MAX_UNPACKED_BYTES:
        raise RejectedReleaseError(f"release: {len(data)} bytes exceeds {MAX_UNPACKED_BYTES}")
    end = head_bytes(data)
    head = zlib.compressobj(9, zdict=_dictionary(base))
    differences = _bytes_of(data)[end:] - _base_bytes(base, len(data) - end)
    # Runs and frequencies alone: what repeats in weights repeats by chance, and is not looked for.
    rest = zlib.compressobj(strategy=zlib.Z_RLE)
    planes = np.concatenate([differences[0::2], differences[1::2]])
    return b"".join(
        [head.compress(data[:end]), head.flush(), rest.compress(planes.tobytes()), rest.flush()]
    )


def unpack_release_file(packed: bytes, size_bytes: int, base: bytes = b"") -> bytes:
    """Return the release file of ``size_bytes`` that was packed; it is not verified yet.

    Raises:
        RejectedReleaseError: it is damaged, of another size, or packed against another base.
    """
    if size_bytes > MAX_UNPACKED_BYTES:
        raise RejectedReleaseError(f"release: {size_bytes} bytes exceeds {MAX_UNPACKED_BYTES}")
    try:
        head, remainder = _inflated(packed, MAX_HEAD_BYTES, _dictionary(base))
        rest_bytes = size_bytes - len(head)
        if rest_bytes <= 0:
            raise RejectedReleaseError(f"packed release: a head of {len(head)} bytes is too large")
        planes, remainder = _inflated(remainder, rest_bytes)
    except zlib.error as error:  # type: ignore[misc]  # its stub is wrong
        raise RejectedReleaseError(f"packed release: {error}") from error
    if len(planes) != rest_bytes or remainder:
        raise RejectedReleaseError(f"packed release: does not hold {size_bytes} bytes")
    rest = np.empty(rest_bytes, np.uint8)
    evens = (rest_bytes + 1) // 2
    rest[0::2], rest[1::2] = np.split(_bytes_of(planes), [evens])
    rest += _base_bytes(base, rest_bytes)
    return b"".join([head, rest.data])


def _inflated(stream: bytes, limit: int, dictionary: bytes = b"") -> tuple[bytes, bytes]:
    """Return what a zlib stream holds and what stands behind it."""
    inflater = zlib.decompressobj(zdict=dictionary)
    content = inflater.decompress(stream, limit)
    if not inflater.eof:
        # At the limit its checksum may still be unread.
        content += inflater.decompress(inflater.unconsumed_tail, 1)
    if not inflater.eof or len(content) > limit:
        raise RejectedReleaseError(f"packed release: cut short, or more than {limit} bytes in it")
    return content, inflater.unused_data


def _dictionary(base: bytes) -> bytes:
    return base[: head_bytes(base)][-_DICTIONARY_BYTES:] if base else b""


def _base_bytes(base: bytes, wanted: int) -> NDArray[np.uint8]:
    """Return what stands behind the manifest of ``base``; zeros without one."""
    if not base:
        return np.zeros(wanted, np.uint8)
    rest = _bytes_of(base)[head_bytes(base) :]
    if len(rest) != wanted:
        raise RejectedReleaseError(
            f"packed release: its base has {len(rest)} bytes behind the manifest, not {wanted}"
        )
    return rest


def _bytes_of(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)
