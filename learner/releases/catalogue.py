"""Which releases there are, and which of them each robot shall use."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from learner.releases.folder import ReleaseFolder, describe
from learner.releases.packings import PUSHED_BYTES, HeldRelease, ReleasePackings
from learner.releases.pins import ReleasePins
from protocol.errors import ConfigurationError, RejectedReleaseError
from protocol.messages import (
    ReleaseAnnouncement,
    ReleaseEntry,
    ReleaseList,
    ReleaseOrder,
    SignedOrder,
)
from protocol.release import Release, unpack_release
from protocol.release_order import sign_order

logger = logging.getLogger(__name__)

_IN_MEMORY = 3
"""The current release, and those that slow robots are still fetching. Older ones that are asked
for, such as pinned ones, are read from disk chunk by chunk."""
_KEPT_REASONS = 20


class ReleaseCatalogue:
    """The releases of one fleet and the operator's pins. Any thread may call any method."""

    def __init__(self, folder: Path, keep: int, signing_key: Ed25519PrivateKey) -> None:
        """Prepare a catalogue; ``load`` reads what is on disk.

        Args:
            folder: where release files and pins are kept.
            keep: how many files, beside the pinned ones.
            signing_key: signs orders; its public half is what releases are verified with.
        """
        self._signing_key = signing_key
        self._verify_key = signing_key.public_key()
        self._folder = ReleaseFolder(folder, keep, self._verify_key)
        self._pins = ReleasePins(folder / "pins.json")
        self._held: dict[int, HeldRelease] = {}
        self._packings = ReleasePackings()
        self._current: ReleaseEntry | None = None
        self._changing = threading.Lock()
        self._withheld: deque[str] = deque(maxlen=_KEPT_REASONS)

    @property
    def current_version(self) -> int:
        """Version of the newest release; 0 before the first one."""
        current = self._current
        return 0 if current is None else current.version

    @property
    def newest(self) -> bytes | None:
        """The newest release's file; None before the first one."""
        held = self._held.get(self.current_version)
        return None if held is None else held.data

    def load(self) -> None:
        """Read the newest releases and the pins from disk.

        Raises:
            ConfigurationError: the file of pins is damaged.
        """
        self._pins.load()
        for stored in reversed(self._folder.newest(_IN_MEMORY)):
            self.make_current(*stored)

    def publish(self, data: bytes, announce: Callable[[], None]) -> None:
        """Make a release current, unless it is already, and keep it on disk.

        Args:
            data: the release's file.
            announce: called as soon as it is served, before it is on disk. Should the learner
                lose it in between, versions go on above what its robots have.

        Raises:
            RejectedReleaseError: robots would refuse it: not signed by the release key, damaged,
                or not newer than the current one.
        """
        with self._changing:
            release = unpack_release(data, self._verify_key)
            version = release.manifest.version
            if data == self.newest:
                return
            if version <= self.current_version:
                raise RejectedReleaseError(
                    f"release {version}: not newer than the current one, {self.current_version}"
                )
            self.make_current(release, data)
            announce()
            try:
                self._folder.store(version, data, pinned=set(self._pins.versions.values()))
            except ConfigurationError as error:
                # The fleet learns on; only a restarted learner would begin with an older one.
                logger.warning("release %d is announced but not kept on disk: %s", version, error)

    def make_current(self, release: Release, data: bytes) -> None:
        """Offer a release that has been verified, from memory."""
        version = release.manifest.version
        held = {**self._held, version: HeldRelease(data=data, digest=bytes.fromhex(release.digest))}
        # Replaced as a whole: the server's thread reads it without a lock.
        self._held = {key: held[key] for key in sorted(held)[-_IN_MEMORY:]}
        self._packings.add(version, self._held)
        self._current = describe(release, len(data))

    def withhold(self, reason: str) -> None:
        """Note why the trainer did not release its weights."""
        self._withheld.appendleft(reason)

    def pin(self, robot_id: str, version: int) -> None:
        """Pin a robot, or with "" the whole fleet; version 0 takes the pin away.

        Raises:
            RejectedReleaseError: there is no such release on disk, or it is damaged.
            ConfigurationError: the pin cannot be written to disk; nothing is changed.
        """
        with self._changing:
            if version and not self.holds(version):
                there = ", ".join(map(str, self._folder.versions())) or "none"
                raise RejectedReleaseError(
                    f"release {version} is not on the learner's disk, or damaged; there: {there}"
                )
            if version or robot_id in self._pins.versions:
                self._pins.change(robot_id, version)

    def holds(self, version: int) -> bool:
        """Say whether a release is on disk and whole."""
        return self._folder.entry(version) is not None

    def pinned_version(self, robot_id: str) -> int:
        """Return what a robot is pinned to; 0 when it shall use the newest release."""
        return self._pins.version_for(robot_id)

    def pins(self) -> dict[str, int]:
        """Return robot -> version; "" is the whole fleet."""
        return dict(self._pins.versions)

    def offer(self, robot_id: str) -> ReleaseAnnouncement | None:
        """Return what this robot shall use; None when there is nothing, or its pin is damaged."""
        pinned = self._pins.version_for(robot_id)
        entry = self._folder.entry(pinned) if pinned else self._current
        if entry is None:
            return None
        digest = bytes.fromhex(entry.digest)
        return ReleaseAnnouncement(
            version=entry.version,
            digest=digest,
            size_bytes=entry.size_bytes,
            order=self._order(robot_id, entry.version, digest),
        )

    def with_packing(
        self, offer: ReleaseAnnouncement, have_version: int, *, is_news: bool
    ) -> ReleaseAnnouncement:
        """Return an offer with the packing for a robot that has ``have_version``, if there is one.

        Args:
            offer: what the robot shall use.
            have_version: what it has.
            is_news: it is announced because it has just been published, and only then: to a
                robot that was up to date until then the packing's first bytes are due without
                being asked for, which saves it a round trip. A pin's announcement is none.
        """
        packing = self._packings.offer(offer.version, have_version)
        if packing is None:
            return offer
        if is_news and packing.base_version and packing.base_version == self._previous_version:
            follows = min(PUSHED_BYTES, packing.size_bytes)
            packing = msgspec.structs.replace(packing, follows_bytes=follows)
        return msgspec.structs.replace(offer, packing=packing)

    def read(
        self, version: int, offset: int, length: int, packed_from: int | None = None
    ) -> memoryview | None:
        """Return a part of a release's file, or of its packing; None when there is no such."""
        held = self._held.get(version)
        if packed_from is not None:
            data = self._packings.get(version, packed_from)
        elif held is not None:
            data = held.data
        else:
            data, offset = self._folder.read(version, offset, length), 0
        return None if data is None else memoryview(data)[offset : offset + length]

    def listing(self) -> ReleaseList:
        """Return what the operator may want to know."""
        entries = [self._folder.entry(version) for version in self._folder.versions()]
        return ReleaseList(
            current=self.current_version,
            releases=[entry for entry in entries if entry is not None],
            pinned=self.pins(),
            withheld=list(self._withheld),
        )

    @property
    def _previous_version(self) -> int:
        """The release that was current before; 0 for none."""
        return max((version for version in self._held if version < self.current_version), default=0)

    def _order(self, robot_id: str, version: int, digest: bytes) -> SignedOrder | None:
        if not self._pins.number:
            return None
        bound = robot_id if robot_id in self._pins.versions else ""
        order = ReleaseOrder(
            number=self._pins.number, robot_id=bound, version=version, digest=digest
        )
        return sign_order(order, self._signing_key)
