"""Finding the records that two stores of a fleet hold, and leaving one of each.

A robot whose ack was lost with its gateway delivers to another gateway what the first has stored.
Whoever reads several stores counts such a record once anyway; here the second copy goes, when both
gateways are there again.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
AGAIN_S = 60.0
"""How long copies rest that could not go: nobody reads them again every second meanwhile."""


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


@dataclass(kw_only=True, slots=True)
class _Progress:
    """How far an overlap is settled."""

    settled: SequenceSet = field(default_factory=SequenceSet)
    """There is no second copy of these any more, or both are kept for good."""
    resting: SequenceSet = field(default_factory=SequenceSet)
    """These could not be settled; all of them are looked at again at ``again_s``."""
    again_s: float = 0.0
    has_failed: bool = False

    def open_ones(self, shared: SequenceSet, now_s: float) -> SequenceSet:
        """Return what to look at now."""
        if now_s >= self.again_s:
            self.resting = SequenceSet()
        return shared - self.settled - self.resting

    def rest(self, sequences: SequenceSet, now_s: float) -> None:
        """Leave some for later."""
        if not self.resting.count:
            self.again_s = now_s + AGAIN_S
        self.resting |= sequences


class Reconciliation:
    """Remembers what was settled between which gateways. Belongs to one thread."""

    def __init__(
        self, holders: Sequence[Holder], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._holders = holders
        self._clock = clock
        self._progress: defaultdict[tuple[int, int, str, bytes], _Progress]
        self._progress = defaultdict(_Progress)
        self._said_shared: set[bytes] = set()

    def step(self, reports: Mapping[int, GatewayReport]) -> None:
        """Settle some of what the reports of gateways that answer show to be stored twice.

        The next step goes on. A record goes only after the other store's copy was read and found to
        be the same. Killed in between, the next learner finds the same overlap and goes on.
        """
        end_s = self._clock() + STEP_S
        for overlap in self._overlaps(reports):
            progress = self._progress[overlap.name]
            open_ones = progress.open_ones(overlap.sequences, self._clock())
            while asked := list(islice(open_ones, AT_ONCE)):
                asked_set = _set_of(asked)
                try:
                    settled = self._settle(overlap, asked)
                except GraspFleetError as error:
                    _say_failed(overlap, asked, error, progress)
                    progress.rest(asked_set, self._clock())
                    break
                progress.settled |= settled
                progress.rest(asked_set - settled, self._clock())
                if self._clock() >= end_s:
                    return
                open_ones -= asked_set

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
        # Only the second store is ever asked: a copy that is not there any more may have been
        # retired for its age since, and the first store's is then the only one. The newest record
        # of a store stays until a newer one comes.
        gone = set(second.retire_copies(*where, same)) if same else set()
        return _set_of({*sequences} - (same.keys() - gone))

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


def _say_failed(
    overlap: _Overlap, sequences: Sequence[int], error: Exception, progress: _Progress
) -> None:
    """Say once of an overlap why copies stay; damage is there every time."""
    if not progress.has_failed:
        progress.has_failed = True
        logger.warning(
            "%d episodes of %s stay in two stores, next try in %.0f s; said once: %s",
            *(len(sequences), overlap.robot_id, AGAIN_S, error),
        )


def _set_of(sequences: Iterable[int]) -> SequenceSet:
    return SequenceSet([range(one, one + 1) for one in sequences])


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
