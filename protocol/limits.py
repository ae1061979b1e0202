"""How large anything from another machine may be."""

from __future__ import annotations

from dataclasses import dataclass

MAX_HEADER_BYTES = 65_536
"""Largest message header but for a fleet status."""
MAX_STATUS_BYTES = 8 * 2**20
"""Largest fleet status: a few thousand robots."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeLimits:
    """What an episode record may hold at most; the same on both sides of the wire."""

    record_bytes: int = 8 * 2**20
    meta_bytes: int = 256 * 2**10
    image_bytes: int = 2 * 2**20
    """Size of one JPEG image."""
    image_side_px: int = 2048
    """Height and width of an image, each."""
    pixels: int = 64 * 2**20
    """Of all images together; what a reader must hold once they are decoded."""
    steps: int = 256
    text_chars: int = 512
    """Length of any one string."""


EPISODE_LIMITS = EpisodeLimits()
"""The limits in force. An agent keeps them before it spools, the gateway before it stores."""
