"""Which sequences of a spool a store has: what several stores are counted together by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from learner.store.file import StoreFile
from learner.store.ledger import SpoolLedger
from learner.store.sequence_set import SequenceSet
from learner.store.stored_episode import SEQUENCE

MOST_LOOKED_AT = 20_000
"""Sequences that one question may look at: about 40 ms of the gateway's process."""


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
    """How far a spool was looked through, and what was found."""

    through: int = 0
    stored: SequenceSet = field(default_factory=SequenceSet)
    tombstoned: SequenceSet = field(default_factory=SequenceSet)

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

    def read(
        self,
        transaction: Any,  # noqa: ANN401
        name: bytes,
        ledger: SpoolLedger,
        budget: int,
    ) -> tuple[SpoolHoldings | None, int]:
        """Return the holdings of a spool, and how many sequences were looked at.

        None when the budget did not suffice; the next call goes on from there.

        Args:
            transaction: the one that ``ledger`` was read in.
            name: robot and spool, see ``spool_prefix``.
            ledger: the store's account of the spool.
            budget: how many sequences may be looked at.
        """
        if not ledger.missing and not ledger.tombstoned:
            self._looks.pop(name, None)
            return SpoolHoldings(stored=SequenceSet([range(1, ledger.highest + 1)])), 0
        look = self._looks.setdefault(name, _Look())
        end = min(ledger.highest, look.through + budget)
        looked_at = end - look.through
        for sequence in range(look.through + 1, end + 1):
            # Asked one by one, for the reason that EpisodeStore._log_after gives.
            key = name + SEQUENCE.pack(sequence)
            if transaction.get(key, db=self._file.index) is not None:
                look.stored.add(sequence)
            elif transaction.get(key, db=self._file.tombstones) is not None:
                look.tombstoned.add(sequence)
        look.through = end
        if end < ledger.highest:
            return None, looked_at
        if not _agrees(look, ledger):
            # A gap was filled, or what was given up came after all: from the beginning, next time.
            del self._looks[name]
            return None, looked_at
        return look.found(), looked_at


def _agrees(look: _Look, ledger: SpoolLedger) -> bool:
    return (look.stored.count, look.tombstoned.count) == (ledger.stored, ledger.tombstoned)
