"""Why a message is refused, in one word each; docs/protocol.md says what an agent does then."""

from __future__ import annotations

from enum import StrEnum


class RefusalCode(StrEnum):
    """Codes of a Refusal. On the wire the field is open: a peer may know more of them."""

    SAY_HELLO = "say-hello"
    NOT_ENROLLED = "not-enrolled"
    WIRE_VERSION = "wire-version"
    NAME = "name"
    TWO_AGENTS = "two-agents"
    NOT_A_ROBOT = "not-a-robot"
    SPOOLS = "spools"
    NOT_AN_OPERATOR = "not-an-operator"
    NO_SUCH_ROBOT = "no-such-robot"
    RATE = "rate"
    MALFORMED = "malformed"
    TOMBSTONE = "tombstone"
    DIGEST = "digest"
    RECORD = "record"
    ROBOT_NAME = "robot-name"
    PICTURE_SIZE = "picture-size"
    CONFLICTS = "conflicts"
    STORE_FULL = "store-full"
    STORE_UNAVAILABLE = "store-unavailable"
    RELEASE_NOT_SERVED = "release-not-served"
    OUT_OF_RANGE = "out-of-range"
    NOT_PINNED = "not-pinned"
