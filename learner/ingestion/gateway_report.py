"""What a gateway says of itself to the learner, which tells the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.messages import StatusReply

if TYPE_CHECKING:
    # Loads LMDB, which the learner's own process needs only once there are reports.
    from learner.ingestion.stop_orders import StopBook
    from learner.store.holdings import SpoolHoldings


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionReport:
    """One robot's connection to a gateway."""

    process_id: bytes
    """Of the agent."""
    address: str
    silent_s: float
    """Since it was heard last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayReport:
    """One gateway and its store, at one moment."""

    endpoint: str
    """``tcp://host:port``, as robots reach it."""
    store_id: bytes
    status: StatusReply
    """What this gateway alone knows."""
    sessions: dict[str, SessionReport]
    """By robot, of those that said hello here last."""
    holdings: dict[str, dict[bytes, SpoolHoldings]]
    """By robot and spool."""
    stops: StopBook
    """The orders to stop robots that it knows of, also such as are settled."""

    @property
    def is_unheard(self) -> bool:
        """The gateway has not said anything yet."""
        return not self.store_id

    @classmethod
    def unheard(cls, name: str) -> GatewayReport:
        """Return what is known of a gateway that has not said anything yet."""
        nothing = StatusReply(
            uptime_s=0.0,
            release_version=0,
            releases_published=0,
            release_latency_ms=[],
            episodes_stored=0,
            robots=[],
        )
        return cls(endpoint=name, store_id=b"", status=nothing, sessions={}, holdings={}, stops={})


@dataclass(frozen=True, kw_only=True, slots=True)
class HeardReport:
    """A report, and how old it is where it is read."""

    report: GatewayReport
    age_s: float
