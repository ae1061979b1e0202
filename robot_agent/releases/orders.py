"""Orders to go back to an older release: whether they hold, and which was the last."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.errors import ConfigurationError, RejectedReleaseError
from protocol.key_files import PUBLIC_MODE, write_over
from protocol.messages import ReleaseAnnouncement, ReleaseOrder, SignedOrder
from protocol.release_order import open_order

logger = logging.getLogger(__name__)


class ReleaseOrders:
    """The last order that this robot obeyed; kept on disk, so that no earlier one counts again."""

    def __init__(self, file: Path, verify_key: Ed25519PublicKey, robot_id: str) -> None:
        """Begin without an order; ``load`` reads the file."""
        self._file = file
        self._verify_key = verify_key
        self._robot_id = robot_id
        self.number = 0
        """Of the last order obeyed; 0 for none."""

    def load(self) -> None:
        """Read the last order from disk. What is damaged there counts for nothing."""
        try:
            signed = msgspec.msgpack.decode(self._file.read_bytes(), type=SignedOrder)
            self.number = open_order(signed, self._verify_key).number
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError, RejectedReleaseError) as error:
            logger.warning("last order %s counts for nothing: %s", self._file, error)

    def check(self, announcement: ReleaseAnnouncement) -> ReleaseOrder:
        """Return the order that an announcement comes with.

        Raises:
            RejectedReleaseError: there is none, it is forged, binds another robot, is for another
                release, or is not newer than the last one obeyed.
        """
        if announcement.order is None:
            raise RejectedReleaseError("no order of the operator says to use it")
        order = open_order(announcement.order, self._verify_key)
        if order.robot_id not in {"", self._robot_id}:
            raise RejectedReleaseError(f"its order is for {order.robot_id}, not {self._robot_id}")
        if (order.version, order.digest) != (announcement.version, announcement.digest):
            raise RejectedReleaseError(
                f"its order is for release {order.version} ({order.digest.hex()[:12]})"
            )
        if order.number <= self.number:
            raise RejectedReleaseError(
                f"its order, number {order.number}, is not newer than {self.number}, the last one"
                " obeyed: replayed"
            )
        return order

    def note(self, announcement: ReleaseAnnouncement) -> None:
        """Note that the release of an announcement is in use and on disk, with its order if any."""
        if announcement.order is None:
            return
        try:
            order = self.check(announcement)
        except RejectedReleaseError:
            return  # one that is known already; a release that is newer needs none
        try:
            write_over(self._file, msgspec.msgpack.encode(announcement.order), mode=PUBLIC_MODE)
        except ConfigurationError as error:
            logger.warning("order %d is obeyed but not kept on disk: %s", order.number, error)
        self.number = order.number
