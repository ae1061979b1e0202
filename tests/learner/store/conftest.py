from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.store.episode_store import EpisodeStore
from tests.stored_records import MAX_BYTES


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    """An empty store in the folder ``store`` of the test's own."""
    store = EpisodeStore(tmp_path / "store", MAX_BYTES)
    yield store
    store.close()
