"""Which offers of the release server were refused: they are made again with every keep-alive."""

from __future__ import annotations

from protocol.messages import ReleaseAnnouncement

_MOST_REMEMBERED = 1024


class RefusedOffers:
    """Remembers the newest refusals. What they were refused for decides how far they reach."""

    def __init__(self) -> None:
        self._keys: dict[bytes, None] = {}

    def __contains__(self, announcement: ReleaseAnnouncement) -> bool:
        return not self._keys.keys().isdisjoint({announcement.digest, _with_order(announcement)})

    def add_release(self, announcement: ReleaseAnnouncement) -> None:
        """Remember a release that no order can make usable."""
        self._add(announcement.digest)

    def add_offer(self, announcement: ReleaseAnnouncement) -> None:
        """Remember a release as it was ordered; with another order it may be used."""
        self._add(_with_order(announcement))

    def _add(self, key: bytes) -> None:
        while len(self._keys) >= _MOST_REMEMBERED:
            del self._keys[next(iter(self._keys))]
        self._keys[key] = None


def _with_order(announcement: ReleaseAnnouncement) -> bytes:
    """Tell a release offered with one order from the same release with another, or with none."""
    return announcement.digest + (announcement.order.signature if announcement.order else b"-")
