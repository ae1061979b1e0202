"""The packings of the releases in memory: each made once, whoever fetches it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from protocol.errors import RejectedReleaseError
from protocol.messages import ReleasePacking
from protocol.release_packing import pack_release_file

logger = logging.getLogger(__name__)

PUSHED_BYTES = 256 * 2**10
"""A robot that is known to have the base is sent as much of a new packing unasked."""

WORTH_ITS_WHILE = 0.95
"""A packing is offered when it has at most this share of the file's bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldRelease:
    """A release in memory."""

    data: bytes
    """Its file."""
    digest: bytes


class ReleasePackings:
    """Replaced as a whole: one thread adds, and any may read meanwhile."""

    def __init__(self) -> None:
        self._packed: dict[tuple[int, int], bytes] = {}
        self._held: Mapping[int, HeldRelease] = {}

    def add(self, version: int, held: Mapping[int, HeldRelease]) -> None:
        """Pack a release alone and against every older one of ``held``; forget all not in it."""
        data = held[version].data
        packed = {key: one for key, one in self._packed.items() if key[0] in held}
        bases = [0, *(older for older in held if older < version)]
        with ThreadPoolExecutor(len(bases)) as pool:  # zlib lets other threads run
            files = [held[base].data if base else b"" for base in bases]
            found = pool.map(partial(_packed, data), files)
            packed |= {(version, base): one for base, one in zip(bases, found, strict=True) if one}
        self._held, self._packed = held, packed

    def offer(self, version: int, have_version: int) -> ReleasePacking | None:
        """Return the packing of a release for a robot that has another; None if there is none."""
        base = have_version if (version, have_version) in self._packed else 0
        found, held = self._packed.get((version, base)), self._held.get(base)
        if found is None or (base and held is None):
            return None
        return ReleasePacking(
            size_bytes=len(found),
            base_version=base,
            base_digest=held.digest if held else b"",
        )

    def get(self, version: int, base_version: int) -> bytes | None:
        """Return a packing; None when there is no such (any more)."""
        return self._packed.get((version, base_version))


def _packed(data: bytes, base: bytes) -> bytes | None:
    """Return a packing that is worth its while, else None."""
    try:
        found = pack_release_file(data, base)
    except RejectedReleaseError as error:
        # Of another network, or too large: the file itself is fetched then.
        logger.info("a release is not packed: %s", error)
        return None
    return found if len(found) < WORTH_ITS_WHILE * len(data) else None
