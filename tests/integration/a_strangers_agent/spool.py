"""Episodes that wait for their ack, and sequences that were given up."""

from __future__ import annotations

import secrets
from pathlib import Path

from disk import write


class Spool:
    """Episodes and tombstones on disk until they are acked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        head = folder / "spool"
        if not head.exists():
            write(head, secrets.token_bytes(16))
            write(folder / "next", b"1")
        self.id = head.read_bytes()

    @property
    def next_sequence(self) -> int:
        return int((self._folder / "next").read_text())

    def put(self, record: bytes) -> int:
        sequence = self._take_sequence()
        write(self._folder / f"{sequence}.record", record)
        return sequence

    def lose(self) -> int:
        sequence = self._take_sequence()
        write(self._folder / f"{sequence}.tombstone", b"lost on purpose")
        return sequence

    def waiting(self, kind: str) -> list[tuple[int, Path]]:
        found = self._folder.glob(f"*.{kind}")
        return sorted((int(path.stem), path) for path in found)

    def forget(self, sequence: int) -> None:
        for kind in ("record", "tombstone"):
            (self._folder / f"{sequence}.{kind}").unlink(missing_ok=True)

    def set_aside(self, sequence: int, reason: str) -> None:
        write(self._folder / f"{sequence}.tombstone", f"refused: {reason}".encode()[:512])
        record = self._folder / f"{sequence}.record"
        if record.exists():
            record.rename(record.with_suffix(".refused"))

    def _take_sequence(self) -> int:
        # Counted up first: a crash in between costs a number, and never gives one twice.
        sequence = self.next_sequence
        write(self._folder / "next", str(sequence + 1).encode())
        return sequence
