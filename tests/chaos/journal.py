"""What emulated robots spooled, written down beside the outbox and independently of it.

One text file per process, appended to and synced before and after every spooling, so that the
count outlives SIGKILL between any two instructions:

    intent ROBOT DIGEST
    spooled ROBOT SPOOL SEQUENCE DIGEST NANOSECONDS

DIGEST is the sha256 of the record and SPOOL the outbox's id, both hexadecimal; NANOSECONDS is the
monotonic clock. An intent that nothing follows was cut off by a kill: its record may or may not
have got into the outbox.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self


class Journal:
    """The journal of one process, for its one spooling thread."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def intends(self, robot: str, digest: bytes) -> None:
        """Note that a record is about to be spooled."""
        self._append(f"intent {robot} {digest.hex()}\n")

    def spooled(self, robot: str, spool_id: bytes, sequence: int, digest: bytes) -> None:
        """Note that the outbox took it, under this sequence."""
        facts = (robot, spool_id.hex(), sequence, digest.hex(), time.monotonic_ns())
        self._append("spooled {} {} {} {} {}\n".format(*facts))

    def _append(self, line: str) -> None:
        os.write(self._file, line.encode("ascii"))
        os.fdatasync(self._file)


@dataclass(kw_only=True, slots=True)
class RobotJournal:
    """What the journals say of one robot."""

    spooled: dict[tuple[bytes, int], bytes] = field(default_factory=dict)
    """Spool id and sequence -> digest."""
    unfinished: set[bytes] = field(default_factory=set)
    """Digests of records that a kill may have kept out of the outbox."""
    spooled_at_ns: list[int] = field(default_factory=list)
    """When, on the monotonic clock, in order."""


def read_journals(paths: Iterable[Path]) -> dict[str, RobotJournal]:
    """Return what the journals of all processes say, by robot."""
    robots: defaultdict[str, RobotJournal] = defaultdict(RobotJournal)
    for path in paths:
        for line in path.read_text("ascii").splitlines():
            kind, robot, *facts = line.split(" ")
            if kind == "intent":
                robots[robot].unfinished.add(bytes.fromhex(facts[0]))
            else:
                _note_spooled(robots[robot], *facts)
    return dict(robots)


def _note_spooled(robot: RobotJournal, spool: str, sequence: str, digest: str, at_ns: str) -> None:
    robot.spooled[bytes.fromhex(spool), int(sequence)] = bytes.fromhex(digest)
    robot.spooled_at_ns.append(int(at_ns))
    robot.unfinished.discard(bytes.fromhex(digest))
