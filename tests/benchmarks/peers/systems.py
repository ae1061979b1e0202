"""Everything that takes part, and what an ack of each is worth."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class System:
    """One way to get episodes to a learner."""

    name: str
    module: str
    """Its adapter under ``tests.benchmarks.peers``."""
    variant: str = "-"
    pins: str = ""
    """The exact packages of its environment, a file beside this one; "" for our own."""
    guarantee: str
    """What holds once an episode is acked, and against whom."""
    is_ours: bool = False
    """The measurement cannot do without it; a peer that fails is one row that says so."""


OURS = System(
    name="ours",
    module="gateway",
    variant="1",
    guarantee="durable, encrypted, authenticated, checked, in the ledger",
    is_ours=True,
)
OURS_TWICE = System(
    name="ours, two gateways",
    module="gateway",
    variant="2",
    guarantee="the same, half of the agents each",
    is_ours=True,
)
BARE = System(
    name="bare ROUTER",
    module="bare_router",
    variant="plain",
    guarantee="ack from RAM, in the clear",
    is_ours=True,
)
BARE_CURVE = System(
    name="bare ROUTER, CURVE",
    module="bare_router",
    variant="curve",
    guarantee="ack from RAM, encrypted",
    is_ours=True,
)
BARE_COMMIT = System(
    name="bare ROUTER, CURVE + LMDB",
    module="bare_router",
    variant="commit",
    guarantee="durable, encrypted; nothing checked",
    is_ours=True,
)
RAY_ACTOR = System(
    name="plain Ray actor", module="ray_actor", guarantee="ack from RAM, in the clear"
)
PORTAL = System(
    name="portal",
    module="portal_calls",
    pins="portal.txt",
    guarantee="ack from RAM, in the clear",
)
REVERB = System(
    name="Reverb, window",
    module="reverb_tables",
    variant="window",
    pins="reverb.txt",
    guarantee="ack from RAM, in the clear",
)
REVERB_INSERT = System(
    name="Reverb, Client.insert",
    module="reverb_tables",
    variant="insert",
    pins="reverb.txt",
    guarantee="ack from RAM, in the clear; waits for every episode",
)
# What is compared most closely is measured side by side.
SYSTEMS = (
    BARE,
    BARE_CURVE,
    OURS,
    OURS_TWICE,
    BARE_COMMIT,
    REVERB,
    REVERB_INSERT,
    RAY_ACTOR,
    PORTAL,
)
