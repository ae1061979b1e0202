"""The whole fleet at one moment, put together from all who know a part of it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from fleet.operator import operator_connection, registry_of, release_connection
from fleet.releases import ReleaseClient
from fleet.run_folder import RunFolder
from fleet.status import StatusClient, in_full
from protocol.messages import ReleaseList, StatusReply


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """What the gateway, the release server and the registry say at about the same time."""

    status: StatusReply
    listing: ReleaseList | None
    """None when the release server does not answer."""
    members: frozenset[str]
    """Who may speak."""

    @property
    def newest_release(self) -> int:
        """The newest release, as far as anybody knows; 0 before the first."""
        return self.listing.current if self.listing else self.status.release_version

    def for_scripts(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return in_full(self.status, self.listing, self.members)


class Observer:
    """A context manager that asks all of them, as an operator, over connections that it keeps."""

    def __init__(self, folder: RunFolder) -> None:
        """Read the operator's keys.

        Raises:
            ConfigurationError: a file of the folder is missing or wrong.
        """
        self._registry = registry_of(folder)
        self._gateway = StatusClient(*operator_connection(folder))
        self._releases = ReleaseClient(*release_connection(folder))
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        self._opened.enter_context(self._gateway)
        self._opened.enter_context(self._releases)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.close()

    def look(self) -> Overview:
        """Return the fleet as it is now.

        Raises:
            TransientError: the gateway did not answer in time.
            AuthenticationError: the operator's key was refused.
        """
        return Overview(
            status=self._gateway.fetch(),
            listing=self._releases.fetch_if_there(),
            members=frozenset(member.name for member in self._registry.members()),
        )
