"""How large, how many and how often anything from another machine may be."""

from __future__ import annotations

from dataclasses import dataclass

MAX_HEADER_BYTES = 65_536
"""Largest message header but for a fleet status."""
MAX_STATUS_BYTES = 12 * 2**20
"""Largest fleet status: 2,500 robots that all have as much to say as they may."""
MAX_TOMBSTONE_RANGE = 4096
"""Sequences that one tombstone may cover; as many as one ack may name."""
MAX_TOMBSTONES = 100_000
"""Sequences that one robot may give up in all: nothing retires them from the learner's store."""
MAX_TOMBSTONE_REASON_BYTES = 128
"""What the learner keeps of a tombstone's reason, once for every sequence."""
MAX_TOMBSTONES_SHARE = 1 / 8
"""Of the store's size limit: what the tombstones of all robots may take up."""
MAX_GATEWAYS = 64
"""Gateways of one fleet, which every robot is told of."""
MAX_QUEUED_BYTES = 256 * 2**20
"""Records that wait for the store; above this the gateway stops reading and TCP holds robots back.
"""
MAX_SERVER_MEMORY_BYTES = 2 * 2**30
"""Memory of a process that robots connect to, beside the windows that it granted. Above this its
socket is closed with all that it holds, and opened anew: ZeroMQ keeps the parts of a message that
never ends without any limit of its own."""

HANDSHAKE_MS = 10_000
"""Who connects must have authenticated itself by then."""
MAX_DESCRIPTORS = 65_536
"""Open connections of a process that robots connect to, where the system allows as many."""

MESSAGES_PER_S = 5_000
"""Messages that one key may send in the long run; what is above it is dropped and sent again."""
MESSAGE_BURST = 10_000
"""Messages that one key may send at once after a silence."""
REFUSED_MESSAGE_COST = 50
"""A refused message counts as this many: a peer that sends only rubbish is soon not read at all."""

LOGGED_REFUSALS = 5
"""Refusals of one peer for one reason that are logged in LOGGING_PERIOD_S; more are counted."""
LOGGING_PERIOD_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeLimits:
    """What an episode record may hold at most; the same on both sides of the wire."""

    record_bytes: int = 8 * 2**20
    meta_bytes: int = 256 * 2**10
    image_bytes: int = 2 * 2**20
    """Size of one JPEG image."""
    image_bytes_per_pixel: int = 8
    """Of one JPEG image, beside ``image_extra_bytes``; noise at the best quality has five."""
    image_extra_bytes: int = 65_536
    """What one JPEG image may have whatever it measures: a camera's notes, a small picture."""
    image_side_px: int = 2048
    """Height and width of an image, each."""
    pixels: int = 64 * 2**20
    """Of all images together; what a reader must hold once they are decoded."""
    steps: int = 256
    text_chars: int = 512
    """Length of any one string."""


EPISODE_LIMITS = EpisodeLimits()
"""The limits in force. An agent keeps them before it spools, the gateway before it stores."""
