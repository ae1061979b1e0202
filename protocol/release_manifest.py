"""What a release says of itself: how to search, how to collect, whose map is which.

A key that is not known is passed over: the manifest is signed, and a later learner may say more to
later agents without locking out those of today.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

_Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Positive = Annotated[float, msgspec.Meta(gt=0, le=10)]


class SearchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Cross-entropy search and servoing rule (Levine et al. 2016, section IV-B)."""

    samples: Annotated[int, msgspec.Meta(ge=2, le=4096)] = 40
    elites: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 6
    iterations: Annotated[int, msgspec.Meta(ge=1, le=20)] = 3
    close_ratio: _Fraction = 0.9
    """Close when closing now is at least this fraction as promising as the best motion."""
    lift_ratio: _Fraction = 0.5
    """Lift when closing now is less than this fraction as promising as the best motion."""
    lift_m: _Positive = 0.10
    """How far a lift raises the hand, metres."""


class CollectionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How attempts are made while learning."""

    random_fraction: _Fraction = 1.0
    """Share of attempts with random commands."""
    explore_fraction: _Fraction = 0.0
    """Share of attempts that take a random elite plus noise; the rest is greedy."""
    max_moves: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    """An attempt closes after this many moves at the latest."""


class RefinedMap(msgspec.Struct, frozen=True, kw_only=True):
    """A robot's hand-eye map as the learner refined it."""

    calibration_digest: str
    """Digest of the map it started from; a robot that calibrated anew ignores it."""
    matrix: Annotated[list[float], msgspec.Meta(min_length=12, max_length=12)]
    """float32[3, 4], row by row (see protocol.hand_eye)."""
    warning: str = ""
    """Why this map cannot be right; "" when nothing speaks against it."""


class ReleaseManifest(msgspec.Struct, frozen=True, kw_only=True):
    """The signed head of a release file (see protocol.release)."""

    version: Annotated[int, msgspec.Meta(ge=1)]
    parent: Annotated[int, msgspec.Meta(ge=0)]
    """Version it was trained on from; 0 for none."""
    created_at_ns: int
    network: str
    image_height_px: Annotated[int, msgspec.Meta(ge=8, le=4096)]
    image_width_px: Annotated[int, msgspec.Meta(ge=8, le=4096)]
    encode_bytes: Annotated[int, msgspec.Meta(ge=1)]
    """Size of the graph ``encode(first_image, image) -> features``."""
    score_bytes: Annotated[int, msgspec.Meta(ge=1)]
    """Size of the graph ``score(features, pose, hand_eye_map, actions) -> success``."""
    search: SearchSettings
    collection: CollectionSettings
    hand_eye_maps: dict[str, RefinedMap]
    """By robot id."""
    metrics: dict[str, float]
    """Training step, examples seen, held-out loss and the like."""
    software: dict[str, str]
    """Versions of what built it, and the source commit."""
