"""What became of every episode of every robot: the stores beside the outboxes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from fleet.episode_counts import RobotCounts
from fleet.fleet_files import agent_config
from fleet.run_folder import RunFolder
from fleet.store_reader import Ranges, count_episodes, missing, open_store, stored_attempts
from fleet.table import plain_table
from fleet.words import counted, utc_text
from learner.store.export import range_text
from learner.store.ledger import Retirement
from learner.store.verification import StoreVerification, verify_store
from protocol.errors import ConfigurationError
from robot_agent.delivery.outbox import OutboxCounts, outbox_counts

_COLUMNS = {
    "written": "written",
    "sent": "sent",
    "waiting": "waiting",
    "stored": "stored",
    "missing": "missing",
    "damaged": "damaged",
    "doubled": "duplicated",
    "conflicts": "conflicts",
    "retired": "retired",
    "tombstoned": "tombstoned",
    "came twice": "refused_duplicates",
}
"""Headings of the verification's table, and what stands below them."""
_QUIET = {"damaged", "doubled", "conflicts", "retired", "tombstoned", "came twice"}
_WHY = {"age": "by age", "size": "by size", "copy": "as copies that another store keeps"}
_SHOWN_RETIREMENTS = 10
"""The newest ones; all of them are in the JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What became of every episode of every robot."""

    robots: dict[str, RobotCounts]
    damaged: int
    """Records that fail their digest or cannot be found by their key."""
    missing_sequences: dict[str, dict[str, list[str]]]
    """Robot -> spool -> ranges of sequences that neither came nor were given up."""
    damaged_sequences: dict[str, dict[str, list[str]]]
    """Robot -> spool -> ranges of sequences whose record is not what was stored."""
    misplaced: list[str]
    """Sound records that cannot be found by their key."""
    retirements: list[Retirement]
    """What the store removed to make room, oldest first."""

    @property
    def sound(self) -> bool:
        """True when nothing is damaged, missing, doubled or in conflict.

        A conflict is accounted for, both records are there; but somebody should look at it.
        """
        counts = self.robots.values()
        return not self.damaged and not any(
            one.missing or one.duplicated or one.conflicts for one in counts
        )

    def table(self, *, width: int) -> Text:
        """Return one row per robot; of what went wrong, only what did."""
        rows = [
            [robot, *(str(getattr(counts, name)) for name in _COLUMNS.values())]
            for robot, counts in self.robots.items()
        ]
        return plain_table(("robot", *_COLUMNS), rows, width=width, quiet=_QUIET)

    def findings(self) -> list[str]:
        """Return a sentence for everything that a person should know."""
        said = [
            f"{robot}: {what} of spool {spool[:8]}: {', '.join(gaps)}"
            for what, found in (
                ("missing", self.missing_sequences),
                ("damaged", self.damaged_sequences),
            )
            for robot, spools in found.items()
            for spool, gaps in spools.items()
        ]
        said += [f"damaged: the store's index does not lead to {key}" for key in self.misplaced]
        said += [
            f"ALARM: {counted(counts.conflicts, 'episode')} of {robot} came under the sequence "
            "of another one; both are kept. Was its disk copied to another robot, or restored from "
            "a backup?"
            for robot, counts in self.robots.items()
            if counts.conflicts
        ]
        said += [
            f"{robot}: {ahead} more stored than its outbox knew to have sent: it delivers still, "
            "or an ack has not reached it"
            for robot, counts in self.robots.items()
            if (ahead := counts.stored + counts.retired + counts.damaged - counts.sent) > 0
        ]
        said += [
            f"retired {_WHY.get(one.reason, one.reason)}: {counted(one.records, 'episode')}, "
            f"{one.record_bytes} bytes, commits {one.first_number} to {one.last_number}, "
            f"{utc_text(one.began_at_ns)} to {utc_text(one.ended_at_ns)} UTC"
            for one in self.retirements[-_SHOWN_RETIREMENTS:]
        ]
        return said

    def verdict(self) -> str:
        """Return one sentence."""
        stored = sum(one.stored for one in self.robots.values())
        if self.sound:
            return f"{counted(stored, 'episode')}, every one of them whole and there once"
        return (
            f"{counted(stored, 'episode')}; {self.damaged} damaged, "
            f"{sum(one.missing for one in self.robots.values())} missing, "
            f"{sum(one.duplicated for one in self.robots.values())} doubled, "
            f"{sum(one.conflicts for one in self.robots.values())} in conflict"
        )


def verify(stores: Sequence[Path], run: Path | None) -> Verification:
    """Read every record of a fleet's stores and compare them with the outboxes of a run folder.

    Raises:
        StoreError: there is no store in a folder, or its file is damaged.
        ConfigurationError: ``run`` is not a run folder.
    """
    outboxes = run_outboxes(RunFolder.existing(run)) if run is not None else {}
    # First, and in a process of its own: a damaged file can end the process that reads it.
    found = [verify_store(folder) for folder in stores]
    damaged = _damaged(found)
    with ExitStack() as opened:
        readers = [opened.enter_context(open_store(folder)) for folder in stores]
        records = [record for store in readers for record in stored_attempts(store)]
        names = {name for store in readers for name in store.robots()}
        gaps = {
            name: {spool.hex(): runs for spool, runs in missing(readers, name).items()}
            for name in sorted(names)
        }
        return Verification(
            robots=count_episodes(readers, records, outboxes, damaged),
            damaged=sum(
                one.damaged_episodes + len(one.misplaced) + one.damaged_conflicts for one in found
            ),
            missing_sequences=_in_words(gaps),
            damaged_sequences=_in_words(damaged),
            misplaced=[key for one in found for key in one.misplaced],
            retirements=[each for store in readers for each in store.retirements()],
        )


def _damaged(found: Sequence[StoreVerification]) -> Ranges:
    """Return the damaged sequences of all stores, by robot and spool."""
    damaged: Ranges = {}
    for one in found:
        for robot in one.damaged:
            for spool, runs in one.damaged_of(robot).items():
                damaged.setdefault(robot, {}).setdefault(spool, []).extend(runs)
    return damaged


def run_outboxes(folder: RunFolder) -> dict[str, OutboxCounts]:
    """Return what the outboxes of a run folder's robots say, by robot."""
    found = {}
    for name in folder.robot_names():
        try:
            found[name] = outbox_counts(agent_config(folder, name).state_folder)
        except ConfigurationError:
            continue  # this robot's agent never got as far as an outbox
    return found


def _in_words(found: Ranges) -> dict[str, dict[str, list[str]]]:
    return {
        robot: {spool: [range_text(gap) for gap in gaps] for spool, gaps in spools.items()}
        for robot, spools in found.items()
        if spools
    }
