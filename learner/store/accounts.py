"""Reading what a store says of itself: ledgers, what is missing, what was retired."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from learner.store.file import StoreFile
from learner.store.holdings import HoldingsReader, SpoolHoldings
from learner.store.ledger import (
    Retirement,
    RobotLedger,
    SpoolLedger,
    StoreAccount,
    Tally,
    robot_ledger,
)
from learner.store.stored_episode import SEQUENCE, robot_of, robot_prefix, spool_prefix
from learner.store.transaction import last_number, read_entry
from protocol.errors import StoreError

_MAX_LOOKED_AT = 20_000
"""Sequences that one question may look at: about 30 ms of the thread that serves every robot."""

_TALLY, _SPOOL = msgspec.msgpack.Decoder(Tally), msgspec.msgpack.Decoder(SpoolLedger)
RESCUE_ADVICE = "stop the learner, save what is whole with `fleet episodes export`"


class StoreAccounts:
    """The ledgers of an open store. Any thread may read; damage is raised as StoreError."""

    def __init__(self, folder: Path, file: StoreFile) -> None:
        self._folder = folder
        self._file = file
        self._known_through: dict[bytes, int] = {}
        """By robot and spool: how far known_through has looked. Only of spools with a gap."""
        self._holdings = HoldingsReader(file)

    def store_id(self) -> bytes:
        """What tells this store from every other; empty when no writer has opened it lately."""
        return self._file.store_id

    def last_commit(self) -> int:
        """Return the number of the newest episode; 0 when there is none."""
        with self._reading() as transaction:
            return last_number(transaction, self._file.log)

    def robots(self) -> list[str]:
        """Return the names of all robots that ever delivered a record or a tombstone."""
        with self._reading() as transaction:
            names = {bytes(name) for name in _keys(transaction, self._file.tallies)}
            # A tally begins with the first record: who only gave sequences up has none.
            names |= {robot_of(bytes(name)) for name in _keys(transaction, self._file.spools)}
            return sorted(name.decode() for name in names)

    def ledger(self, robot_id: str) -> RobotLedger:
        """Return what is stored, missing and tombstoned of one robot."""
        with self._reading() as transaction:
            tally = read_entry(transaction, self._file.tallies, robot_id.encode(), Tally)
        return robot_ledger(tally, list(self.spools(robot_id).values()))

    def account(self) -> StoreAccount:
        """Return what the store holds of everyone; a damaged part is said, not raised."""
        with suppress(StoreError):
            return StoreAccount(episodes=self.last_commit(), robots=self._ledgers(), damage="")
        # Robot by robot, to find what can still be read.
        episodes, damage = 0, ""
        names: list[str] = []
        robots: dict[str, RobotLedger] = {}
        try:
            episodes = self.last_commit()
            names = self.robots()
        except StoreError as error:
            damage = str(error)
        for robot_id in names:
            try:
                robots[robot_id] = self.ledger(robot_id)
            except StoreError as error:
                damage = f"{robot_id}: {error}"
        is_whole = not damage
        if damage:
            damage += f"; {RESCUE_ADVICE}"
        return StoreAccount(episodes=episodes, robots=robots, damage=damage, is_whole=is_whole)

    def missing(self, robot_id: str) -> dict[bytes, list[range]]:
        """Return, per spool id, the sequences that neither came nor were buried.

        Only those below the highest that did: later ones may still wait in the robot's outbox.
        """
        gaps: dict[bytes, list[range]] = {}
        with self._reading() as transaction:
            prefix = robot_prefix(robot_id)
            for name, value in _with_prefix(transaction, self._file.spools, prefix):
                spool = msgspec.msgpack.decode(value, type=SpoolLedger)
                if spool.missing:
                    known = _sequences(transaction, self._file.index, name)
                    known += _sequences(transaction, self._file.tombstones, name)
                    gaps[name[len(prefix) :]] = _gaps([*sorted(known), spool.highest + 1])
        return gaps

    def known_through(self, robot_id: str, spool_id: bytes) -> int:
        """Return a sequence up to which every one of a spool is stored or tombstoned.

        The highest such, unless that is far above what was asked before: a call looks at no more
        than _MAX_LOOKED_AT sequences, and the next one goes on from there.

        Raises:
            StoreError: the store is damaged.
        """
        name = spool_prefix(robot_id, spool_id)
        with self._reading() as transaction:
            spool = read_entry(transaction, self._file.spools, name, SpoolLedger)
            if not spool.missing:
                return spool.highest
            through = self._known_through.get(name, 0)
            # Asked one by one, for the reason that _log_after gives.
            for sequence in range(through + 1, min(through + _MAX_LOOKED_AT, spool.highest) + 1):
                key = name + SEQUENCE.pack(sequence)
                tables = (self._file.index, self._file.tombstones)
                if all(transaction.get(key, db=table) is None for table in tables):
                    break
                through = sequence
        # What is known once stays known.
        self._known_through[name] = through
        return through

    def holdings(self) -> dict[str, dict[bytes, SpoolHoldings]]:
        """Return which sequences of each robot's spools are stored or tombstoned.

        Belongs to one thread. A call looks at no more than MOST_LOOKED_AT sequences; spools that it
        did not get through are left out, and the next call goes on with them.

        Raises:
            StoreError: the store is damaged.
        """
        with self._reading() as transaction:
            ledgers = {
                name: msgspec.msgpack.decode(value, type=SpoolLedger)
                for name, value in _with_prefix(transaction, self._file.spools, b"")
            }
            held = self._holdings.read(transaction, ledgers)
            found: defaultdict[str, dict[bytes, SpoolHoldings]] = defaultdict(dict)
            for name, spool in held.items():
                robot = robot_of(name)
                found[robot.decode()][name[len(robot) + 1 :]] = spool
            return dict(found)

    def conflict_count(self) -> int:
        """Return how many records came under a taken key, damaged ones among them."""
        with self._reading() as transaction:
            return int(transaction.stat(self._file.conflicts)["entries"])

    def spools(self, robot_id: str) -> dict[bytes, SpoolLedger]:
        """Return the account of each of a robot's spools."""
        prefix = robot_prefix(robot_id)
        with self._reading() as transaction:
            return {
                name[len(prefix) :]: msgspec.msgpack.decode(value, type=SpoolLedger)
                for name, value in _with_prefix(transaction, self._file.spools, prefix)
            }

    def retirements(self) -> list[Retirement]:
        """Return what was retired, when and why, oldest first."""
        if self._file.retirements is None:
            return []
        with self._reading() as transaction:
            cursor = transaction.cursor(self._file.retirements)
            return [msgspec.msgpack.decode(value, type=Retirement) for _, value in cursor]

    def read_ledgers(self) -> None:
        """Read everything that stands beside the records.

        Raises:
            StoreError: something of it is damaged.
        """
        for robot_id in self.robots():
            self.ledger(robot_id)
            self.missing(robot_id)
        self.retirements()

    def _ledgers(self) -> dict[str, RobotLedger]:
        """Return every robot's ledger, by name, as they are at one moment."""
        tallies: dict[bytes, Tally] = {}
        spools: defaultdict[bytes, list[SpoolLedger]] = defaultdict(list)
        with self._reading() as transaction:
            for name, value in transaction.cursor(self._file.tallies):
                tallies[name] = _TALLY.decode(value)
            for name, value in transaction.cursor(self._file.spools):
                spools[robot_of(name)].append(_SPOOL.decode(value))
            return {
                name.decode(): robot_ledger(tallies.get(name, Tally()), spools[name])
                for name in sorted(tallies.keys() | spools.keys())
            }

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        # What is read is also decoded within: a name that rotted is damage like any other.
        try:
            with self._file.environment.begin() as transaction:
                yield transaction
        except (lmdb.Error, msgspec.MsgspecError, struct.error, ValueError) as error:
            raise StoreError(f"episode store {self._folder}: damaged: {error}") from error


def _keys(transaction: Any, table: Any) -> Iterator[bytes]:  # noqa: ANN401
    keys: Iterator[bytes] = transaction.cursor(table).iternext(values=False)
    return keys


def _sequences(transaction: Any, table: Any, name: bytes) -> list[int]:  # noqa: ANN401
    found = _with_prefix(transaction, table, name, values=False)
    return [SEQUENCE.unpack(key[len(name) :])[0] for key, _ in found]


def _gaps(known: list[int]) -> list[range]:
    return [
        range(before + 1, after) for before, after in pairwise([0, *known]) if after > before + 1
    ]


def _with_prefix(
    transaction: Any,  # noqa: ANN401
    table: Any,  # noqa: ANN401
    prefix: bytes,
    *,
    values: bool = True,
) -> Iterator[tuple[bytes, bytes]]:
    cursor = transaction.cursor(table)
    at_record = cursor.set_range(prefix)
    while at_record and cursor.key().startswith(prefix):
        yield cursor.key(), cursor.value() if values else b""
        at_record = cursor.next()
