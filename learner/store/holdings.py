"""Which sequences of a spool a store has: what several stores are counted together by."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from learner.store.file import StoreFile
from learner.store.ledger import SpoolLedger
from learner.store.sequence_set import SequenceSet
from learner.store.stored_episode import SEQUENCE, robot_of

logger = logging.getLogger(__name__)

MOST_LOOKED_AT = 20_000
"""Sequences that one question may look at: about 40 ms of the gateway's process."""
MOST_RUNS = 10_000
"""Of one robot, in all of its spools: each report of a gateway holds them all. Robots that only
move between gateways have a few."""
_PIECE = 256
"""Sequences after which it is asked whether all were found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolHoldings:
    """What a store has of one spool, retired records among it."""

    stored: SequenceSet = field(default_factory=SequenceSet)
    tombstoned: SequenceSet = field(default_factory=SequenceSet)

    def together(self, other: SpoolHoldings) -> SpoolHoldings:
        """Return what two stores have; what one of them stored is not given up."""
        stored = self.stored | other.stored
        return SpoolHoldings(
            stored=stored, tombstoned=(self.tombstoned | other.tombstoned) - stored
        )

    @property
    def missing(self) -> int:
        """How many sequences below the highest neither came nor were given up."""
        known = self.stored | self.tombstoned
        return known.highest - known.count


@dataclass(kw_only=True, slots=True)
class _Look:
    """What was found in one spool, looked through from its newest sequence down.

    A robot that came from another gateway has all of its earlier sequences there: once everything
    that the ledger counts was found, nobody needs to look for those.
    """

    begin: int
    """The lowest sequence that was looked at."""
    end: int
    """Behind the highest that was looked at."""
    stored: SequenceSet = field(default_factory=SequenceSet)
    tombstoned: SequenceSet = field(default_factory=SequenceSet)
    is_through: bool = False
    """All was found once; what comes is above ``end``."""

    def open_ones(self, highest: int, budget: int) -> range:
        """Return what to look at next."""
        if self.end <= highest:
            return range(self.end, min(highest + 1, self.end + budget))
        return range(max(1, self.begin - budget), self.begin)

    def note_looked_at(self, sequences: range) -> None:
        """Go on from there."""
        self.begin = min(self.begin, sequences.start)
        self.end = max(self.end, sequences.stop)

    @property
    def runs(self) -> int:
        """How many runs were found."""
        return self.stored.run_count + self.tombstoned.run_count

    def agrees(self, ledger: SpoolLedger) -> bool:
        """Say whether all was found that the ledger counts."""
        counts = self.stored.count, self.tombstoned.count
        return counts == (ledger.stored, ledger.tombstoned)

    def found(self) -> SpoolHoldings:
        """Return a copy: the look goes on."""
        return SpoolHoldings(
            stored=SequenceSet(self.stored.runs()), tombstoned=SequenceSet(self.tombstoned.runs())
        )


class HoldingsReader:
    """Finds out the holdings of spools, a bounded piece at a time; remembers what it has seen."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file
        self._looks: dict[bytes, _Look] = {}
        self._torn: set[bytes] = set()
        """Spools of more runs than their robot may have: nothing of these is kept."""
        self._said: set[bytes] = set()
        """Robots that had one."""

    def read(
        self,
        transaction: Any,  # noqa: ANN401
        ledgers: Mapping[bytes, SpoolLedger],
    ) -> dict[bytes, SpoolHoldings]:
        """Return the holdings of those spools that were looked through, by name.

        The others follow in later calls. All share MOST_LOOKED_AT, from the one with the least left
        to look at: a spool with an absurd gap keeps nobody waiting but itself. A spool with which
        its robot would have more than MOST_RUNS is left out for as long as that is so.

        Args:
            transaction: the one that ``ledgers`` were read in.
            ledgers: the store's account of each spool, by robot and spool (see ``spool_prefix``).
        """
        budget = MOST_LOOKED_AT
        found: dict[bytes, SpoolHoldings] = {}
        left: list[tuple[int, bytes]] = []
        runs: Counter[bytes] = Counter()
        for name, ledger in ledgers.items():
            if ledger.missing or ledger.tombstoned:
                left.append((self._left(name, ledger), name))
            else:
                self._looks.pop(name, None)
                self._torn.discard(name)
                runs[robot_of(name)] += 1
                found[name] = SpoolHoldings(stored=SequenceSet([range(1, ledger.highest + 1)]))
        for _, name in sorted(left):
            room = MOST_RUNS - runs[robot_of(name)]
            if name in self._torn and _most_runs(ledgers[name]) > room:
                continue
            held, looked_at = self._read_one(transaction, name, ledgers[name], budget, room)
            budget -= looked_at
            runs[robot_of(name)] += self._looks[name].runs if name in self._looks else 0
            if held is not None:
                found[name] = held
        return found

    def _left(self, name: bytes, ledger: SpoolLedger) -> int:
        """Return how many sequences of a spool are not looked at yet, at most."""
        look = self._looks.get(name)
        if look is None:
            return ledger.highest
        newer = ledger.highest + 1 - look.end
        return newer if look.is_through else newer + look.begin - 1

    def _read_one(
        self,
        transaction: Any,  # noqa: ANN401
        name: bytes,
        ledger: SpoolLedger,
        budget: int,
        room: int,
    ) -> tuple[SpoolHoldings | None, int]:
        """Return the holdings of a spool if it was looked through, and how much was looked at.

        Args:
            transaction: as for ``read``.
            name: of the spool.
            ledger: the store's account of it.
            budget: how many sequences may be looked at.
            room: how many runs it may have.
        """
        top = ledger.highest + 1
        look = self._looks.setdefault(name, _Look(begin=top, end=top))
        looked_at = 0
        while look.runs <= room and (not look.agrees(ledger) or look.end < top):
            is_above = look.end < top
            if not is_above and (look.is_through or look.begin == 1):
                # A gap was filled, or what was given up came after all: anew, next time.
                del self._looks[name]
                return None, looked_at
            piece = look.open_ones(ledger.highest, min(_PIECE, budget - looked_at))
            if not piece:
                return None, looked_at
            self._look_at(transaction, name, piece, look)
            looked_at += len(piece)
        if look.runs > room:
            self._tear(name)
            return None, looked_at
        look.is_through = True
        return look.found(), looked_at

    def _tear(self, name: bytes) -> None:
        del self._looks[name]
        self._torn.add(name)
        robot = robot_of(name)
        if robot not in self._said:
            self._said.add(robot)
            logger.warning(
                "%s has left so many gaps that what it delivered is in more than %d pieces: other "
                "gateways are not told of it, and what two stores have stays in both. Said once",
                *(robot.decode(errors="replace"), MOST_RUNS),
            )

    def _look_at(
        self,
        transaction: Any,  # noqa: ANN401
        name: bytes,
        sequences: range,
        look: _Look,
    ) -> None:
        for sequence in sequences:
            # Asked one by one, for the reason that EpisodeStore._log_after gives.
            key = name + SEQUENCE.pack(sequence)
            if transaction.get(key, db=self._file.index) is not None:
                look.stored.add(sequence)
            elif transaction.get(key, db=self._file.tombstones) is not None:
                look.tombstoned.add(sequence)
        look.note_looked_at(sequences)


def _most_runs(ledger: SpoolLedger) -> int:
    """Return how many runs a spool can have: what is not stored parts what is."""
    return 2 * (ledger.missing + ledger.tombstoned) + 1
