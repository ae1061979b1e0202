"""Records for the episode store that no two robots and no two sequences share."""

from __future__ import annotations

from pathlib import Path

from learner.episode_store import EpisodeStore
from learner.stored_episode import Arrival, RecordKey, StoredEpisode
from protocol.codec import digest

SPOOL = bytes(range(16))


def arrival(
    sequence: int, *, robot: str = "arm", record_bytes: int = 12_000, what: str = ""
) -> Arrival:
    """Return a record that is full of its own name."""
    name = f"{robot}/{sequence}{what};".encode()
    record = (name * (record_bytes // len(name) + 1))[:record_bytes]
    key = RecordKey(robot_id=robot, spool_id=SPOOL, sequence=sequence)
    return Arrival(key=key, digest=digest(record), record=record, letter="s")


def everything(store: EpisodeStore) -> dict[int, StoredEpisode]:
    """Return every sound record by its commit number."""
    found: dict[int, StoredEpisode] = {}
    while piece := store.tail(max(found, default=0), 100):
        found.update(piece)
    return found


def data_file(store_folder: Path) -> Path:
    """Return the file that holds a store."""
    return store_folder / "data.mdb"
