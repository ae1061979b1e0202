"""Verifying a whole episode store, in a process of its own.

A page that was overwritten can end the process that reads it through the memory map; then it is
the child that ends, and the caller learns of it in words.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import lmdb
import msgspec

from learner.store.copy import ranges
from learner.store.episode_store import EpisodeStore
from protocol.errors import StoreError

_MAP_BYTES = 2**40
"""A reader maps whatever is there; this is address space, not memory."""
_PIECE = 256


class StoreVerification(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found."""

    episodes: int
    """Sound records in the log."""
    damaged: dict[str, dict[str, list[tuple[int, int]]]]
    """Robot -> spool, hexadecimal -> first and last of the sequences whose record is not what
    was stored, or not there."""
    misplaced: list[str]
    """Sound records that cannot be found by their key, or only another one can."""
    damaged_conflicts: int
    """Records that came under a taken key and are not what came any more."""

    @property
    def damaged_episodes(self) -> int:
        """How many records are not what was stored."""
        return sum(
            last - first + 1
            for spools in self.damaged.values()
            for gaps in spools.values()
            for first, last in gaps
        )

    def damaged_of(self, robot: str) -> dict[str, list[range]]:
        """Return the damaged sequences of a robot, by spool."""
        return {
            spool: [range(first, last + 1) for first, last in gaps]
            for spool, gaps in self.damaged.get(robot, {}).items()
        }


def verify_store(folder: Path) -> StoreVerification:
    """Read every record and every table of a store, also while the gateway writes to it.

    Raises:
        StoreError: there is no store, or it is so damaged that it cannot be read to the end.
    """
    done = subprocess.run(  # noqa: S603 (this program, and a folder that is only opened)
        [sys.executable, "-m", "learner.store.verification", str(folder)],
        capture_output=True,
        check=False,
    )
    rescue = (
        f"`fleet episodes export --store {folder} --to NEW` saves what is whole, names the rest"
    )
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise StoreError(f"episode store {folder}: damaged; reading it ended with {name}; {rescue}")
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise StoreError(said if "episodes export" in said else f"{said}; {rescue}")
    return msgspec.json.decode(done.stdout, type=StoreVerification)


def _verify_here(folder: Path) -> StoreVerification:
    store = EpisodeStore(folder, _MAP_BYTES, readonly=True)
    try:
        last = store.last_commit()
        sound, misplaced = _read_log(store, last)
        damaged = _not_sound(store, last, sound)
        damaged_conflicts = store.conflict_count() - len(store.conflicts())
        store.read_ledgers()
    finally:
        store.close()
    return StoreVerification(
        episodes=sum(sound),
        damaged=damaged,
        misplaced=misplaced,
        damaged_conflicts=damaged_conflicts,
    )


def _read_log(store: EpisodeStore, last: int) -> tuple[bytearray, list[str]]:
    """Return a mark per commit number whose record is sound, and the keys of misplaced ones."""
    sound = bytearray(last + 1)
    misplaced: list[str] = []
    after = 0
    while after < last and (piece := store.tail(after, _PIECE)):
        for after, episode in piece:
            if after > last:
                break
            sound[after] = 1
            if store.number_of(episode.key) != after:
                misplaced.append(str(episode.key))
    return sound, misplaced


def _not_sound(
    store: EpisodeStore, last: int, sound: bytearray
) -> dict[str, dict[str, list[tuple[int, int]]]]:
    found: defaultdict[str, defaultdict[str, list[int]]]
    found = defaultdict(lambda: defaultdict(list))
    for key, number in store.kept_keys():
        # What came, or was retired, since the log was read, is left for the next time.
        if number <= last and not sound[number]:
            found[key.robot_id][key.spool_id.hex()].append(key.sequence)
    return {
        robot: {
            spool: [(gap.start, gap.stop - 1) for gap in ranges(sequences)]
            for spool, sequences in spools.items()
        }
        for robot, spools in found.items()
    }


def main() -> None:
    """Verify the store that the command line names; the result is JSON on standard output."""
    try:
        found = _verify_here(Path(sys.argv[1]))
    except (StoreError, lmdb.Error) as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
