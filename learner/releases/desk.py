"""What the operator asks of the release server: to list releases, and to pin them."""

from __future__ import annotations

import msgspec

from learner.releases.catalogue import ReleaseCatalogue
from learner.releases.subscribers import ORDERS_SINCE, ReleaseSubscribers
from protocol.errors import ConfigurationError, RejectedReleaseError
from protocol.messages import Refusal, ReleaseList, ReleaseListRequest, ReleasePin
from protocol.refusal_code import RefusalCode
from protocol.registry import Member, Registry


class ReleaseDesk:
    """Belongs to the release server's thread."""

    def __init__(
        self, catalogue: ReleaseCatalogue, subscribers: ReleaseSubscribers, registry: Registry
    ) -> None:
        self._catalogue = catalogue
        self._subscribers = subscribers
        self._registry = registry

    def answer(
        self, member: Member, message: ReleaseListRequest | ReleasePin
    ) -> ReleaseList | Refusal:
        """Do as the operator says; refuse what cannot be done, and whoever is no operator."""
        if member.role != "operator":
            reason = f"the key of {member.name} is a robot's; only an operator's may list and pin"
            return Refusal(code=RefusalCode.NOT_AN_OPERATOR, reason=reason)
        if isinstance(message, ReleasePin):
            reason = self._pin(message)
            if reason:
                return Refusal(code=RefusalCode.NOT_PINNED, reason=reason[:512])
        warnings = [*self._robots_too_old(), *self._pins_without_release()]
        return msgspec.structs.replace(self._catalogue.listing(), warnings=warnings)

    def _pin(self, message: ReleasePin) -> str:
        """Pin or unpin; return why it cannot be done, or ""."""
        robots = {member.name for member in self._registry.members() if member.role == "robot"}
        # A robot that was shut out while it was pinned can still be unpinned.
        robots.update(name for name in self._catalogue.pins() if name)
        if message.robot_id and message.robot_id not in robots:
            known = ", ".join(sorted(robots)) or "none"
            return f"{message.robot_id!r} is not an enrolled robot; enrolled: {known}"
        try:
            self._catalogue.pin(message.robot_id, message.version)
        except (RejectedReleaseError, ConfigurationError) as error:
            return str(error)
        return ""

    def _robots_too_old(self) -> list[str]:
        return [
            f"{robot.robot_id} has release {robot.have_version} and cannot go back to "
            f"{offer.version}: its agent speaks wire version {robot.wire_version}, orders are "
            f"known since {ORDERS_SINCE}; update the agent"
            for _, robot in self._subscribers.all()
            if self._catalogue.pinned_version(robot.robot_id)
            and (offer := self._catalogue.offer(robot.robot_id)) is not None
            and robot.cannot_use(offer)
        ]

    def _pins_without_release(self) -> list[str]:
        return [
            f"{robot_id or 'the whole fleet'} is pinned to release {version}, which is missing or "
            "damaged on the learner's disk: nothing is announced there"
            for robot_id, version in self._catalogue.pins().items()
            if not self._catalogue.holds(version)
        ]
