"""The robots that listen for releases, and what each of them said it has."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import msgspec

from protocol.messages import ReleaseAnnouncement, ReleaseSubscription

logger = logging.getLogger(__name__)

FORGET_AFTER_S = 60.0
"""A robot silent for so long is announced nothing any more."""
ORDERS_SINCE = 2
"""The wire version from which on robots know signed orders."""
PACKINGS_SINCE = 3
"""The wire version from which on robots know packings."""
MOST_AHEAD = 1_000_000
"""A robot that says it has a release so far above the newest here is not believed: versions end
at 2**53, and one robot must not be able to use them up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscriber:
    """A robot's connection."""

    robot_id: str
    public_key: str
    """Z85; it may be revoked while the connection stays."""
    wire_version: int
    have_version: int
    seen_s: float

    def cannot_use(self, offer: ReleaseAnnouncement) -> bool:
        """Say whether it would take an order to go to this release, and the robot knows none."""
        return self.wire_version < ORDERS_SINCE and offer.version < self.have_version

    def as_understood(self, offer: ReleaseAnnouncement) -> ReleaseAnnouncement:
        """Return the offer without what this robot's wire version does not know."""
        if self.wire_version < PACKINGS_SINCE:
            offer = msgspec.structs.replace(offer, packing=None)
        if self.wire_version < ORDERS_SINCE:
            offer = msgspec.structs.replace(offer, order=None)
        return offer


class ReleaseSubscribers:
    """Belongs to the release server's thread, but for ``highest_version`` and the count."""

    def __init__(self) -> None:
        self._by_route: dict[bytes, Subscriber] = {}
        self._highest_version = 0
        self._said_of: set[tuple[str, bool]] = set()

    @property
    def highest_version(self) -> int:
        """Highest version that a robot said it has, of those that can be believed."""
        return self._highest_version

    def __len__(self) -> int:
        return len(self._by_route)

    def all(self) -> list[tuple[bytes, Subscriber]]:
        """Return routing ids and who is there."""
        return list(self._by_route.items())

    def note(
        self,
        route: bytes,
        message: ReleaseSubscription,
        *,
        robot_id: str,
        public_key: str,
        current_version: int,
    ) -> Subscriber:
        """Note a subscription or keep-alive while ``current_version`` is the newest release."""
        subscriber = Subscriber(
            robot_id=robot_id,
            public_key=public_key,
            wire_version=message.wire_version,
            have_version=message.have_version,
            seen_s=time.monotonic(),
        )
        self._by_route[route] = subscriber
        if subscriber.have_version > max(current_version, self._highest_version):
            self._note_ahead(subscriber, current_version)
        return subscriber

    def forget(self, route: bytes) -> None:
        """Announce nothing to this connection any more."""
        self._by_route.pop(route, None)

    def forget_silent(self) -> None:
        """Forget whoever has not been heard for FORGET_AFTER_S."""
        limit_s = time.monotonic() - FORGET_AFTER_S
        for route, subscriber in self.all():
            if subscriber.seen_s < limit_s:
                self.forget(route)

    def _note_ahead(self, subscriber: Subscriber, current_version: int) -> None:
        believed = subscriber.have_version <= current_version + MOST_AHEAD
        if believed:
            self._highest_version = subscriber.have_version
        # Once per robot and kind: it says the same in every message, or counts up.
        if (subscriber.robot_id, believed) in self._said_of:
            return
        self._said_of.add((subscriber.robot_id, believed))
        logger.warning(
            "%s has release %d, the newest here is %d: %s",
            subscriber.robot_id,
            subscriber.have_version,
            current_version,
            "the next one is numbered above it" if believed else "too far ahead to be believed",
        )
