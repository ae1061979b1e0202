"""The packings of the releases in memory: each made once, whoever fetches it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass

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
    """Any thread may call any method.

    The packing that robots who are up to date need is made before a release is announced; those for
    robots that are behind, or have nothing, when the first of them asks.
    """

    def __init__(self) -> None:
        self._packed: dict[tuple[int, int], bytes | None] = {}
        """By version and base; None where no packing is worth its while."""
        self._held: Mapping[int, HeldRelease] = {}
        self._lock = threading.Lock()

    def add(self, version: int, held: Mapping[int, HeldRelease]) -> None:
        """Pack a release against the one before it; forget the packings of all not in ``held``."""
        before = max((older for older in held if older < version), default=0)
        packed = _packed(held[version].data, held[before].data if before else b"")
        with self._lock:
            known = {key: one for key, one in self._packed.items() if key[0] in held}
            self._held, self._packed = held, {**known, (version, before): packed}

    def offer(self, version: int, have_version: int) -> ReleasePacking | None:
        """Return the packing of a release for a robot that has another; None if there is none."""
        for base in (have_version, 0):
            found, held = self.get(version, base), self._held.get(base)
            if found is not None and (held is not None or not base):
                return ReleasePacking(
                    size_bytes=len(found),
                    base_version=base,
                    base_digest=held.digest if held else b"",
                )
        return None

    def get(self, version: int, base_version: int) -> bytes | None:
        """Return a packing; None when there is no such (any more)."""
        with self._lock:
            key = (version, base_version)
            if key not in self._packed and self._may_be_packed(*key):
                base = self._held[base_version].data if base_version else b""
                self._packed[key] = _packed(self._held[version].data, base)
            return self._packed.get(key)

    def _may_be_packed(self, version: int, base_version: int) -> bool:
        is_base_here = not base_version or base_version in self._held
        return version in self._held and is_base_here and base_version < version


def _packed(data: bytes, base: bytes) -> bytes | None:
    """Return a packing that is worth its while, else None."""
    try:
        found = pack_release_file(data, base)
    except RejectedReleaseError as error:
        # Of another network, or too large: the file itself is fetched then.
        logger.info("a release is not packed: %s", error)
        return None
    return found if len(found) < WORTH_ITS_WHILE * len(data) else None
