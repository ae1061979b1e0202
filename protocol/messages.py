"""Every message on the wire: MessagePack header, and for some kinds one body frame behind it.

A header is a MessagePack map whose ``type`` names the message; unknown keys are refused. Robots
connect with DEALER sockets, the learner answers from ROUTER sockets, under CURVE. Who speaks is
known from the authenticated key alone, never from a field.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

WIRE_VERSION = 1

SpoolId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Sha256 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Sequence = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Text = Annotated[str, msgspec.Meta(max_length=512)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]


class _Message(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True
):
    """Base of all messages."""


class Hello(_Message, frozen=True, kw_only=True, tag="hello"):
    """Robot to gateway, once per connection, before anything else."""

    wire_version: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    software_version: Text
    claimed_name: Name
    """Compared with the name that the key is enrolled under; a difference is refused."""
    spool_id: SpoolId
    next_sequence: Sequence
    """The sequence that the outbox will give to its next episode."""


class Welcome(_Message, frozen=True, kw_only=True, tag="welcome"):
    """Gateway to robot: accepted."""

    wire_version: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    robot_id: Name
    window_bytes: Count
    """The robot may have at most this many bytes of episodes sent and not yet acked."""
    known_through: Count
    """Every sequence of this spool up to here is stored or tombstoned."""


class EpisodeSubmission(_Message, frozen=True, kw_only=True, tag="episode"):
    """Robot to gateway; the body frame is one episode record (see protocol.codec)."""

    spool_id: SpoolId
    sequence: Sequence
    digest: Sha256
    """sha256 of the body frame."""


class Tombstone(_Message, frozen=True, kw_only=True, tag="tombstone"):
    """Robot to gateway: these sequences will never come. Acked like an episode."""

    spool_id: SpoolId
    sequence: Sequence
    last_sequence: Sequence
    reason: Text


class Ack(_Message, frozen=True, kw_only=True, tag="ack"):
    """Gateway to robot, after the commit is on disk: forget these."""

    spool_id: SpoolId
    sequences: Annotated[list[Sequence], msgspec.Meta(max_length=4096)]


class Refusal(_Message, frozen=True, kw_only=True, tag="refusal"):
    """Learner to robot: what was refused, and why, in words for an operator."""

    code: Name
    reason: Text
    spool_id: SpoolId | None = None
    sequence: Sequence | None = None
    """With a sequence: this record will never be accepted; keep it aside, do not resend."""


class Heartbeat(_Message, frozen=True, kw_only=True, tag="heartbeat"):
    """Robot to gateway, every second or two and at once when a new release is in use."""

    release_version: Count
    policy_digest: Text
    mode: Text
    attempts: Count
    successes: Count
    outbox_episodes: Count
    outbox_bytes: Count
    sent_bytes: Count
    reconnects: Count
    decision_ms_p50: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
    decision_ms_p99: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
    warnings: Annotated[list[Text], msgspec.Meta(max_length=16)] = []
    """What a person should know now, in words: a hand-eye map that cannot be right, and so on."""


class StatusRequest(_Message, frozen=True, kw_only=True, tag="status_request"):
    """Operator to gateway."""


class RobotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One robot as the learner knows it."""

    robot_id: str
    last_seen_s: float
    """Seconds since any message; infinity is written as -1."""
    connected: bool
    release_version: int
    attempts: int
    successes: int
    recent: str
    """The last 200 attempts, oldest first: 's' success, 'f' failure, 'a' aborted, upper case
    when the attempt was greedy."""
    stored: int
    missing: int
    tombstoned: int
    duplicates: int
    conflicts: int
    refused: int
    outbox_episodes: int
    decision_ms_p50: float
    decision_ms_p99: float
    warnings: list[str]


class StatusReply(_Message, frozen=True, kw_only=True, tag="status_reply"):
    """Gateway to operator: the fleet as the learner knows it."""

    uptime_s: float
    release_version: int
    releases_published: int
    release_latency_ms: list[float]
    """Per release: published until in use on the last live robot (or superseded there)."""
    episodes_stored: int
    robots: list[RobotStatus]


class ReleaseSubscription(_Message, frozen=True, kw_only=True, tag="release_subscription"):
    """Robot to release server, once per connection and again as a keep-alive every few seconds."""

    have_version: Count


class ReleaseAnnouncement(_Message, frozen=True, kw_only=True, tag="release_announcement"):
    """Release server to robot: this release is current; fetch it when it suits you."""

    version: Sequence
    digest: Sha256
    size_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**31)]


class ChunkRequest(_Message, frozen=True, kw_only=True, tag="chunk_request"):
    """Robot to release server: send ``length`` bytes of a release from ``offset``."""

    version: Sequence
    offset: Count
    length: Annotated[int, msgspec.Meta(ge=1, le=4 * 2**20)]


class Chunk(_Message, frozen=True, kw_only=True, tag="chunk"):
    """Release server to robot; the body frame holds the bytes."""

    version: Sequence
    offset: Count


ToGateway = Hello | EpisodeSubmission | Tombstone | Heartbeat | StatusRequest
FromGateway = Welcome | Ack | Refusal | StatusReply
ToReleaseServer = ReleaseSubscription | ChunkRequest
FromReleaseServer = ReleaseAnnouncement | Chunk | Refusal
