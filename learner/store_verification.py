"""Verifying a whole episode store, in a process of its own.

A page that was overwritten can end the process that reads it through the memory map; then it is
the child that ends, and the caller learns of it in words.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from learner.episode_store import EpisodeStore
from protocol.errors import StoreError

_MAP_BYTES = 2**40
"""A reader maps whatever is there; this is address space, not memory."""
_PIECE = 256


class StoreVerification(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found."""

    episodes: int
    """Sound records in the log."""
    damaged: int
    """Commits whose record is not what was stored."""
    misplaced: list[str]
    """Sound records that cannot be found by their key, or only another one can."""


def verify_store(folder: Path) -> StoreVerification:
    """Read every record of a store, also while the gateway writes to it.

    Raises:
        StoreError: there is no store, or it is so damaged that reading it ended the child.
    """
    done = subprocess.run(  # noqa: S603 (this program, and a folder that is only opened)
        [sys.executable, "-m", "learner.store_verification", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise StoreError(f"episode store {folder}: damaged; reading it ended with {name}")
    if done.returncode != 0:
        raise StoreError(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    return msgspec.json.decode(done.stdout, type=StoreVerification)


def _verify_here(folder: Path) -> StoreVerification:
    store = EpisodeStore(folder, _MAP_BYTES, readonly=True)
    last = store.last_commit()
    episodes = after = 0
    misplaced: list[str] = []
    while after < last and (piece := store.tail(after, min(_PIECE, last - after))):
        for _, episode in piece:
            found = store.get(episode.key)
            if found is None or found.digest != episode.digest:
                misplaced.append(str(episode.key))
        sound = [number for number, _ in piece if number <= last]
        episodes += len(sound)
        after = piece[-1][0]
    store.close()
    return StoreVerification(episodes=episodes, damaged=last - episodes, misplaced=misplaced)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_verify_here(Path(sys.argv[1]))))
