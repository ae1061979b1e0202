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
    tombstoned: int = 0
    """Sequences that will never come and are not stored."""
    highest: int = 0
    """The highest sequence that was stored or tombstoned."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotLedger:
    """What the store holds of one robot."""

    stored: int
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


def robot_ledger(tally: Tally, spools: list[SpoolLedger]) -> RobotLedger:
    """Add the spools of one robot up."""
    return RobotLedger(
        stored=tally.stored,
        missing=sum(spool.missing for spool in spools),
        tombstoned=sum(spool.tombstoned for spool in spools),
        duplicates=tally.duplicates,
        conflicts=tally.conflicts,
        attempts=tally.stored - tally.aborted,
        successes=tally.successes,
        recent=tally.recent,
    )


def letter_of(label: Label, mode: Mode) -> str:
    """Return 's' success, 'f' failure, 'a' aborted; upper case when the attempt was greedy."""
    letter = _LETTERS[label]
    return letter.upper() if mode == Mode.GREEDY else letter
