"""Records for the episode store that no two robots and no two sequences share."""

from __future__ import annotations

from pathlib import Path

from learner.store.episode_store import EpisodeStore
from learner.store.stored_episode import Arrival, RecordKey, StoredEpisode
from protocol.codec import digest

SPOOL = bytes(range(16))
PAGE = 4096
MAX_BYTES = 10**8


def arrival(
    sequence: int,
    record: bytes = b"",
    *,
    robot: str = "arm",
    record_bytes: int = 12_000,
    what: str = "",
    letter: str = "s",
) -> Arrival:
    """Return a record that is full of its own name, unless another is given."""
    name = f"{robot}/{sequence}{what};".encode()
    record = record or (name * (record_bytes // len(name) + 1))[:record_bytes]
    key = RecordKey(robot_id=robot, spool_id=SPOOL, sequence=sequence)
    return Arrival(key=key, digest=digest(record), record=record, letter=letter)


def everything(store: EpisodeStore) -> dict[int, StoredEpisode]:
    """Return every sound record by its commit number."""
    found: dict[int, StoredEpisode] = {}
    while piece := store.tail(max(found, default=0), 100):
        found.update(piece)
    return found


def commit_numbers(store: EpisodeStore, after: int = 0, limit: int = 100) -> list[int]:
    """Return the commit numbers of the sound records of one piece."""
    return [number for number, _ in store.tail(after, limit)]


def data_file(store_folder: Path) -> Path:
    """Return the file that holds a store."""
    return store_folder / "data.mdb"


def wipe_trees(folder: Path) -> None:
    """Zero all pages but those of large values; a store may be open on the file meanwhile."""
    data = data_file(folder)
    content = data.read_bytes()
    with data.open("r+b") as file:
        for at in tree_pages(content):
            file.seek(at)
            file.write(bytes(PAGE))


def tree_pages(content: bytes) -> list[int]:
    """Return where the pages of a store's file begin that hold no large value."""
    return [
        at
        for at in range(2 * PAGE, len(content), PAGE)
        if int.from_bytes(content[at : at + 8], "little") == at // PAGE
        and content[at + 10] in (1, 2)
    ]
