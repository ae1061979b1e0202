"""Copies everything that is whole in an episode store into a new one, whatever is broken.

The source is read by plain reads (see lmdb_pages), never through LMDB's map. A record is taken
when its digest holds and its key and commit number are under a sound checksum, wherever in the
file it was found; records that the trees no longer lead to are looked for in all of the file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import msgspec

from learner.store.copy import StoreCopy
from learner.store.lmdb_pages import PageFile
from learner.store.stored_episode import (
    PROVEN_BEGIN,
    PROVEN_HEAD_BYTES,
    SEQUENCE,
    StoredEpisode,
    proven_bytes,
)
from protocol.errors import ConfigurationError, StoreError, StoreFullError

_MAP_BYTES = 2**40
"""Address space, not disk."""

Progress = Callable[[int, int], None]
"""Called with how many records were read, and of how many."""


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of a store."""

    exported: int
    """Records copied, each with a sound digest."""
    conflicts: int
    """Records copied that came under a taken key."""
    retired: int
    """Keys copied whose records had been retired before."""
    tombstoned: int
    lost: dict[str, dict[str, list[str]]]
    """Robot -> spool -> ranges of sequences that were stored and cannot be read any more."""
    lost_episodes: int | None
    """Records that the store says it had and that were not found, named in ``lost`` or not.
    None when how many it had cannot be read."""
    damaged_pages: int
    file_bytes: int
    needed_bytes: int
    """How long the file is, and how long it says it must be; 0 when that cannot be read."""

    @property
    def is_empty(self) -> bool:
        """True when nothing was found, nor anything known to be lost."""
        found = self.exported, self.conflicts, self.retired, self.tombstoned, self.lost_episodes
        return not any(found)

    @property
    def is_whole(self) -> bool:
        """True when nothing was lost."""
        return self.lost_episodes == 0 and not self.damaged_pages and not self.is_cut_short

    @property
    def is_cut_short(self) -> bool:
        """True when the file's end is not there."""
        return self.file_bytes < self.needed_bytes


def export_store(
    source: Path, target: Path, *, robot: str | None = None, on_progress: Progress | None = None
) -> ExportReport:
    """Copy a store, or one robot's part of it, into a new folder.

    A learner may write to the source meanwhile; what is copied is its state at the start. Commit
    numbers stay as they are. A lost sequence that is known gets a tombstone that says so.

    Raises:
        ConfigurationError: ``target`` is there already, its folder cannot be written, or there is
            nothing of ``robot``.
        StoreFullError: the target's disk is full; nothing is left of the copy.
        StoreError: there is no source, or it cannot be read at all.
    """
    data = source / "data.mdb"
    if not data.is_file():
        raise StoreError(f"episode store {source}: there is none yet")
    if target.exists():
        raise ConfigurationError(f"{target}: is there already; export into a new folder")
    with _new_folder(target) as folder, _snapshot(source), PageFile(data) as pages:
        copy = StoreCopy(folder, _MAP_BYTES, robot)
        try:
            report = _Export(pages, copy, on_progress).run()
        finally:
            copy.close()
        if robot is not None and report.is_empty:
            names = sorted({row.key.decode(errors="replace") for row in pages.rows("tallies")})
            raise ConfigurationError(
                f"episode store {source}: holds nothing of a robot {robot!r}; it knows "
                f"{', '.join(names) or 'none'}"
            )
    return report


class _Export:
    def __init__(self, pages: PageFile, copy: StoreCopy, on_progress: Progress | None) -> None:
        self._pages = pages
        self._copy = copy
        self._on_progress = on_progress
        self._expected = pages.entries("log")
        self._read = 0

    def run(self) -> ExportReport:
        pages, copy = self._pages, self._copy
        copy.take_ledgers(pages.rows("spools"), pages.rows("tallies"), pages.rows("retirements"))
        retired = copy.take_retired(pages.rows("index"))
        exported, sound = self._copy_log()
        conflicts = self._copy_conflicts()
        if pages.damaged_pages or self._expected is None or sound < self._expected:
            found, found_conflicts = self._copy_strays()
            exported += found
            conflicts += found_conflicts
        lost = copy.bury_lost(pages.rows("index"))
        tombstoned = copy.take_tombstones(pages.rows("tombstones"))
        copy.finish()
        named = sum(
            len(gap) for spools in lost.values() for gaps in spools.values() for gap in gaps
        )
        # Of one robot's part the file does not say how many it had.
        expected = self._expected if copy.robot is None else exported
        return ExportReport(
            exported=exported,
            conflicts=conflicts,
            retired=retired,
            tombstoned=tombstoned,
            lost={
                robot: {
                    spool.hex(): [range_text(gap) for gap in gaps] for spool, gaps in found.items()
                }
                for robot, found in lost.items()
            },
            lost_episodes=None if expected is None else max(named, expected - exported),
            damaged_pages=len(pages.damaged_pages),
            file_bytes=pages.size_bytes,
            needed_bytes=pages.needed_bytes,
        )

    def _copy_log(self) -> tuple[int, int]:
        """Return how many records were taken, and how many were sound, of whatever robot."""
        taken = sound = 0
        for row in self._pages.rows("log"):
            self._report_progress()
            if (episode := _sound(row.value)) is None:
                continue
            self._pages.cover(row)
            number = SEQUENCE.unpack(row.key)[0] if len(row.key) == SEQUENCE.size else 0
            if not episode.is_proven or episode.number == number:
                sound += 1
                taken += self._copy.take_record(number, episode, row.value)
        return taken, sound

    def _copy_conflicts(self) -> int:
        taken = 0
        for row in self._pages.rows("conflicts"):
            if (episode := _sound(row.value)) is not None:
                self._pages.cover(row)
                taken += self._copy.take_conflict(episode, row.value)
        return taken

    def _copy_strays(self) -> tuple[int, int]:
        taken = conflicts = 0
        for offset in self._pages.matches(PROVEN_BEGIN):
            size_bytes = proven_bytes(self._pages.read(offset, PROVEN_HEAD_BYTES))
            value = self._pages.read(offset, size_bytes) if size_bytes else b""
            if not value or (episode := _sound(value)) is None:
                continue
            self._report_progress()
            if episode.number:
                taken += self._copy.take_record(episode.number, episode, value)
            else:
                conflicts += self._copy.take_conflict(episode, value)
        return taken, conflicts

    def _report_progress(self) -> None:
        self._read += 1
        if self._on_progress is not None:
            self._on_progress(self._read, max(self._read, self._expected or 0))


def range_text(sequences: range) -> str:
    """Return ``7`` or ``7-9``."""
    last = sequences.stop - 1
    return str(last) if len(sequences) == 1 else f"{sequences.start}-{last}"


def _sound(value: bytes) -> StoredEpisode | None:
    try:
        return StoredEpisode.unpacked(value)
    except StoreError:
        return None


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Yield a folder that becomes ``target`` when all went well, and goes away when not."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ConfigurationError(f"{target}: cannot be written: {error.strerror}") from error
    try:
        yield workplace / target.name
        (workplace / target.name).rename(target)
    except (lmdb.Error, OSError) as error:
        free_bytes = shutil.disk_usage(target.parent).free
        kind = StoreFullError if free_bytes < 2**20 else StoreError
        raise kind(
            f"export to {target}: {error}; {free_bytes} bytes are free there; nothing of the copy "
            "is kept"
        ) from error
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


@contextmanager
def _snapshot(source: Path) -> Iterator[None]:
    """Keep a learner that runs from using pages again while they are read; if there can be one."""
    data = source / "data.mdb"
    with PageFile(data) as pages:
        is_openable = pages.is_complete
    if not is_openable:
        yield  # LMDB does not open such a file, for a learner neither
        return
    try:
        environment = lmdb.open(str(source), map_size=_MAP_BYTES, max_readers=256, readonly=True)
    except (lmdb.Error, OSError):
        yield
        return
    with environment, environment.begin():
        yield
