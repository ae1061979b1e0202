"""Asks the release server, as an operator, what is released and what is pinned where."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from rich.text import Text

from fleet.operator_client import OperatorClient
from fleet.table import plain_table
from protocol.errors import ConfigurationError, TransientError
from protocol.messages import (
    FromReleaseServer,
    ReleaseEntry,
    ReleaseList,
    ReleaseListRequest,
    ReleasePin,
)
from protocol.security import CurveKeys

WHOLE_FLEET = ""
_HEADINGS = (
    *("release", "notes", "made (UTC)", "held-out loss", "steps", "attempts"),
    *("KB", "digest"),
)
_MOST_NAMES = 2


class ReleaseClient(OperatorClient):
    """A connection to the release server under the operator's key.

    Raises, whatever is asked:
        TransientError: the release server did not answer in time.
        AuthenticationError: the key is no operator's.
        RejectedMessageError: what was asked cannot be done; the message says why.
    """

    def __init__(self, endpoint: str, keys: CurveKeys, server_public: bytes) -> None:
        super().__init__(endpoint, keys, server_public, FromReleaseServer)

    def fetch(self) -> ReleaseList:
        """Return the releases and the pins."""
        return self.ask(ReleaseListRequest(), ReleaseList)

    def fetch_if_there(self) -> ReleaseList | None:
        """Return the same, or None when the release server does not answer."""
        try:
            return self.fetch()
        except TransientError:
            return None

    def pin(self, version: int, robot_id: str = WHOLE_FLEET) -> ReleaseList:
        """Pin a robot or the whole fleet to a release; 0 for the newest again."""
        return self.ask(ReleasePin(version=version, robot_id=robot_id), ReleaseList)


def assigned_version(listing: ReleaseList, robot_id: str) -> int:
    """Return what a robot, or the whole fleet, shall use: what it is pinned to, or the newest."""
    pinned = listing.pinned
    return pinned.get(robot_id) or pinned.get(WHOLE_FLEET) or listing.current


def is_pinned(listing: ReleaseList, robot_id: str) -> bool:
    """Say whether a robot is pinned, by itself or with the whole fleet."""
    return robot_id in listing.pinned or WHOLE_FLEET in listing.pinned


def version_before(listing: ReleaseList, robot_id: str) -> int:
    """Return the release before the one that a robot, or the whole fleet, shall use.

    Raises:
        ConfigurationError: the learner keeps none.
    """
    in_use = assigned_version(listing, robot_id)
    older = [entry.version for entry in listing.releases if entry.version < in_use]
    if not older:
        raise ConfigurationError(
            f"{name_of(robot_id)} is on release {in_use}, and the learner keeps none before it; "
            "'fleet release list' shows what there is"
        )
    return max(older)


def in_words(version: int, robot_id: str, listing: ReleaseList) -> str:
    """Say which release a robot uses, and whether it is the one that it shall use."""
    assigned = assigned_version(listing, robot_id)
    pinned = is_pinned(listing, robot_id)
    if version == assigned:
        return f"{version} {'pinned' if pinned else 'current'}" if version else "none"
    return f"{version or 'none'}, {'pinned to' if pinned else 'behind'} {assigned}"


def name_of(robot_id: str) -> str:
    """Return a robot's name in a sentence."""
    return robot_id or "the whole fleet"


def release_table(listing: ReleaseList, *, width: int) -> Text:
    """Return one row per release, newest first."""
    rows = [
        _cells(entry, listing.pinned, is_current=entry.version == listing.current)
        for entry in listing.releases
    ]
    return plain_table(_HEADINGS, rows, width=width, quiet={"notes"}, left={"notes", "digest"})


def _cells(entry: ReleaseEntry, pinned: Mapping[str, int], *, is_current: bool) -> list[str]:
    made = datetime.fromtimestamp(entry.created_at_ns / 1e9, UTC)
    loss = entry.metrics.get("held_out_loss")
    notes = ["newest"] if is_current else []
    here = [name_of(robot) for robot, at in pinned.items() if at == entry.version]
    if here:
        few = len(here) <= _MOST_NAMES
        notes.append(f"{', '.join(here)} pinned" if few else f"{len(here)} pins")
    return [
        str(entry.version),
        ", ".join(notes),
        f"{made:%Y-%m-%d %H:%M:%S}",
        "" if loss is None else f"{loss:.4f}",
        str(entry.trained_steps),
        f"{entry.metrics.get('attempts', 0):.0f}",
        f"{entry.size_bytes / 1000:.0f}",
        entry.digest[:12],
    ]
