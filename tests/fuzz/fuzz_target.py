"""What is fuzzed: a function that takes bytes from a network, and how to make bytes for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from protocol.errors import RejectedMessageError
from tests.fuzz.byte_mutation import mutate_bytes

Run = Callable[[bytes], str]
"""Takes one input; returns in a few words what became of it. Raises ``RejectedMessageError`` for
an input that is refused; any other exception is a defect."""

_NOT_COMPARED = re.compile(r"field `.*`|'.*'|[0-9a-f]{8,}|\d+", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class FuzzTarget:
    """One way in."""

    name: str
    prepare: Callable[[], Run]
    """Called once per process."""
    seeds: Callable[[], list[bytes]]
    """Inputs to begin with, made by code; some of them valid."""
    mutate: Callable[[bytes, Random], bytes]
    """Return a neighbour of an input that keeps its structure; ValueError if it has none."""
    max_bytes: int = 65_536
    """Longest input tried."""
    memory_mb: int = 768
    """A process that grows beyond this, with everything it has loaded, is a crash."""
    share: float = 1.0
    """Of the time, relative to the other targets."""

    def neighbour(self, data: bytes, random: Random) -> bytes:
        """Return an input like this one."""
        if random.random() < 0.1:
            return mutate_bytes(data, random)[: self.max_bytes]
        try:
            return self.mutate(data, random)[: self.max_bytes]
        except (ValueError, TypeError, LookupError, RecursionError, OverflowError):
            return mutate_bytes(data, random)[: self.max_bytes]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one input."""

    is_refused: bool
    kind: str
    """Alike for inputs that went the same way, also through code that a fuzzer cannot see into:
    most checks are made by msgspec, whose words say which one failed where."""


def outcome_of(run: Run, data: bytes) -> Outcome:
    """Run one input; whatever is not refused as it should be is raised."""
    try:
        return Outcome(is_refused=False, kind=run(data))
    except RejectedMessageError as error:
        return Outcome(is_refused=True, kind=_NOT_COMPARED.sub("·", str(error)[:300]))
