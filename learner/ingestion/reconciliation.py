"""Finding the records that two stores of a fleet hold, and leaving one of each.

A robot whose ack was lost with its gateway delivers to another gateway what the first has stored.
Whoever reads several stores counts such a record once anyway; here the second copy goes, when both
gateways are there again.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Protocol

from learner.ingestion.gateway_report import GatewayReport
from learner.store.sequence_set import SequenceSet
from protocol.errors import GraspFleetError

logger = logging.getLogger(__name__)

AT_ONCE = 32
"""Records that two gateways are asked about at a time; while they go, the store takes no others."""
STEP_S = 0.25
"""How long a step goes on beginning: the gateways wait for each other's reports meanwhile."""


class Holder(Protocol):
    """A gateway that is asked about records of its store. See EpisodeStore for each."""

    def kept_digests(
        self, robot_id: str, spool_id: bytes, sequences: Sequence[int]
    ) -> dict[int, bytes]:
        """Return the digests of those that are kept and sound."""

    def retire_copies(
        self, robot_id: str, spool_id: bytes, digests: Mapping[int, bytes]
    ) -> list[int]:
        """Remove those whose digests these are; return which went."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Overlap:
    """Sequences of one spool that two gateways have stored."""

    first: int
    second: int
    robot_id: str
    spool_id: bytes
    sequences: SequenceSet

    @property
    def name(self) -> tuple[int, int, str, bytes]:
        """What it is remembered by."""
        return self.first, self.second, self.robot_id, self.spool_id


class Reconciliation:
    """Remembers what was settled between which gateways. Belongs to one thread."""

    def __init__(
        self, holders: Sequence[Holder], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._holders = holders
        self._clock = clock
        self._settled: defaultdict[tuple[int, int, str, bytes], SequenceSet]
        self._settled = defaultdict(SequenceSet)
        self._said_shared: set[bytes] = set()

    def step(self, reports: Mapping[int, GatewayReport]) -> None:
        """Settle some of what the reports of gateways that answer show to be stored twice.

        The next step goes on. A record goes only after the other store's copy was read and found to
        be the same. Killed in between, the next learner finds the same overlap and goes on.
        """
        end_s = self._clock() + STEP_S
        for overlap in self._overlaps(reports):
            open_ones = overlap.sequences - self._settled[overlap.name]
            while asked := list(islice(open_ones, AT_ONCE)):
                try:
                    settled = self._settle(overlap, asked)
                except GraspFleetError as error:
                    logger.warning(
                        "%d episodes of %s in two stores are left for later: %s",
                        *(open_ones.count, overlap.robot_id, error),
                    )
                    break
                self._settled[overlap.name] |= settled
                if self._clock() >= end_s:
                    return
                open_ones -= SequenceSet([range(one, one + 1) for one in asked])

    def _settle(self, overlap: _Overlap, sequences: list[int]) -> SequenceSet:
        """Leave one of each two copies; return the sequences of which there is no second one."""
        where = overlap.robot_id, overlap.spool_id
        first, second = self._holders[overlap.first], self._holders[overlap.second]
        here, there = (one.kept_digests(*where, sequences) for one in (first, second))
        both = here.keys() & there.keys()
        same = {one: here[one] for one in sorted(both) if here[one] == there[one]}
        for sequence in sorted(both - same.keys()):
            logger.error(
                "two different episodes under the key %s/%s/%d, in two stores; both are kept. Was "
                "the robot's disk copied to another robot, or restored from a backup?",
                *(overlap.robot_id, overlap.spool_id.hex()[:8], sequence),
            )
        gone = set(second.retire_copies(*where, same)) if same else set()
        # The newest record of a store stays where it is.
        if left := {one: digest for one, digest in same.items() if one not in gone}:
            gone |= set(first.retire_copies(*where, left))
        return SequenceSet([range(one, one + 1) for one in {*sequences} - (same.keys() - gone)])

    def _overlaps(self, reports: Mapping[int, GatewayReport]) -> Iterator[_Overlap]:
        for first, second in combinations(sorted(reports), 2):
            one, other = reports[first], reports[second]
            if one.store_id == other.store_id:
                self._say_shared(one, other)
            else:
                yield from _overlaps_of(first, one, second, other)

    def _say_shared(self, one: GatewayReport, other: GatewayReport) -> None:
        """Say that what two gateways have twice is there once: nothing of it may ever go."""
        if one.store_id not in self._said_shared:
            self._said_shared.add(one.store_id)
            logger.error(
                "gateways %s and %s have one store, or one is a copy of the other's folder: give "
                "each a store of its own that began empty; no copies are removed meanwhile",
                *(one.endpoint, other.endpoint),
            )


def _overlaps_of(
    first: int, one: GatewayReport, second: int, other: GatewayReport
) -> Iterator[_Overlap]:
    for robot_id in one.holdings.keys() & other.holdings.keys():
        here, there = one.holdings[robot_id], other.holdings[robot_id]
        for spool_id in here.keys() & there.keys():
            shared = here[spool_id].stored & there[spool_id].stored
            if shared.count:
                yield _Overlap(
                    first=first,
                    second=second,
                    robot_id=robot_id,
                    spool_id=spool_id,
                    sequences=shared,
                )
