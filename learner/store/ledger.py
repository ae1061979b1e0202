"""The store's own account of what it holds, kept in the same transactions as the records."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from protocol.episode import Label, Mode

RECENT_ATTEMPTS = 200

_LETTERS = {Label.SUCCESS: "s", Label.FAILURE: "f", Label.ABORTED: "a"}


class SpoolLedger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One outbox file of one robot."""

    stored: int = 0
    """Sequences that came, also those that were retired since."""
    tombstoned: int = 0
    """Sequences that will never come and are not stored."""
    highest: int = 0
    """The highest sequence that was stored or tombstoned."""
    retired: int = 0
    """Of the stored ones: those whose record has been removed to make room."""

    @property
    def missing(self) -> int:
        """Sequences below the highest that neither came nor were given up."""
        return self.highest - self.stored - self.tombstoned


class Tally(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One robot, over all of its spools."""

    stored: int = 0
    successes: int = 0
    aborted: int = 0
    recent: str = ""
    """The last attempts, oldest first; see ``letter_of``."""
    duplicates: int = 0
    conflicts: int = 0
    moved_successes: int = 0
    """With the two below: episodes that were stored here and that another store counts now."""
    moved_failures: int = 0
    moved_aborted: int = 0

    def with_attempts(self, letters: str) -> Tally:
        """Return the tally after more stored episodes, one letter each."""
        verdicts = letters.lower()
        return msgspec.structs.replace(
            self,
            stored=self.stored + len(letters),
            successes=self.successes + verdicts.count("s"),
            aborted=self.aborted + verdicts.count("a"),
            recent=(self.recent + letters)[-RECENT_ATTEMPTS:],
        )

    def without_attempts(self, letters: str) -> Tally:
        """Return the tally without episodes that another store counts; ``recent`` stays."""
        verdicts = letters.lower()
        successes, aborted = verdicts.count("s"), verdicts.count("a")
        return msgspec.structs.replace(
            self,
            stored=self.stored - len(letters),
            successes=self.successes - successes,
            aborted=self.aborted - aborted,
            moved_successes=self.moved_successes + successes,
            moved_failures=self.moved_failures + verdicts.count("f"),
            moved_aborted=self.moved_aborted + aborted,
        )


class Retirement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Records that were removed one after the other for one reason, oldest first."""

    reason: str
    """``age`` or ``size``; ``copy`` when another store of the fleet keeps it."""
    first_number: int
    last_number: int
    """Commit numbers of the first and the last record removed."""
    records: int
    record_bytes: int
    """Of their values in the log."""
    began_at_ns: int
    ended_at_ns: int
    """UTC, by the learner's wall clock: for people to read."""

    def joined(self, later: Retirement) -> Retirement:
        """Return both as one statement."""
        return msgspec.structs.replace(
            self,
            last_number=later.last_number,
            records=self.records + later.records,
            record_bytes=self.record_bytes + later.record_bytes,
            ended_at_ns=later.ended_at_ns,
        )


# Looked at now, not at the first use, where two threads could meet: see protocol.messages.
for _struct in (SpoolLedger, Tally, Retirement):
    msgspec.msgpack.Decoder(_struct)


class RobotLedger(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the store holds of one robot."""

    stored: int
    """Episodes that came, also those that were retired since."""
    retired: int
    """Of the stored ones: those whose record has been removed to make room."""
    missing: int
    tombstoned: int
    duplicates: int
    """Records that came again and were the same."""
    conflicts: int
    """Records that came under a taken key and were not the same; kept beside the first."""
    attempts: int
    """Stored episodes that have a verdict; aborted ones have none."""
    successes: int
    recent: str
    aborted: int = 0
    """Stored episodes without a verdict."""
    ever: dict[Label, int] = {}
    """Episodes that came, by how they ended; also those that another store counts now. Unlike the
    others these never become fewer."""


def robot_ledger(tally: Tally, spools: list[SpoolLedger]) -> RobotLedger:
    """Add the spools of one robot up."""
    stored = retired = missing = tombstoned = 0
    for spool in spools:
        stored += spool.stored
        retired += spool.retired
        missing += spool.missing
        tombstoned += spool.tombstoned
    return RobotLedger(
        stored=stored,
        retired=retired,
        missing=missing,
        tombstoned=tombstoned,
        duplicates=tally.duplicates,
        conflicts=tally.conflicts,
        attempts=tally.stored - tally.aborted,
        successes=tally.successes,
        recent=tally.recent,
        aborted=tally.aborted,
        ever=_ever(tally),
    )


def _ever(tally: Tally) -> dict[Label, int]:
    failures = tally.stored - tally.successes - tally.aborted
    return {
        Label.SUCCESS: tally.successes + tally.moved_successes,
        Label.FAILURE: failures + tally.moved_failures,
        Label.ABORTED: tally.aborted + tally.moved_aborted,
    }


EMPTY_LEDGER = robot_ledger(Tally(), [])
"""Of a robot that never delivered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreAccount:
    """What a store holds, as far as it can be read."""

    episodes: int
    """The number of the newest commit."""
    robots: dict[str, RobotLedger]
    """Those whose ledgers can be read."""
    damage: str
    """What could not be read, in words; "" when nothing is damaged."""
    is_whole: bool = True
    """Every robot's ledger could be read."""


def letter_of(label: Label, mode: Mode) -> str:
    """Return 's' success, 'f' failure, 'a' aborted; upper case when the attempt was greedy."""
    letter = _LETTERS[label]
    return letter.upper() if mode == Mode.GREEDY else letter
