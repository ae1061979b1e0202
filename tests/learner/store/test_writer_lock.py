"""One store, one writer: whoever it is, and however it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.store import writer_lock
from learner.store.episode_store import EpisodeStore
from learner.store.export import export_store
from learner.store.verification import verify_store
from protocol.errors import ConfigurationError
from tests.stored_records import MAX_BYTES, arrival

WRITER = f"""
import sys
from pathlib import Path
from learner.store.episode_store import EpisodeStore
store = EpisodeStore(Path(sys.argv[1]), {MAX_BYTES})
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = EpisodeStore(tmp_path / "store", MAX_BYTES)
    store.commit([arrival(1)])
    store.close()
    return tmp_path / "store"


@pytest.fixture
def writer(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have another process write to the store."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield process
        process.kill()


@pytest.mark.usefixtures("writer")
def test_a_second_writer_is_refused_also_by_another_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer_lock, "WAIT_S", 0.0)
    (folder.parent / "link").symlink_to(folder)
    for path in (folder, folder.parent / "link"):
        with pytest.raises(ConfigurationError, match="another process writes to it already"):
            EpisodeStore(path, MAX_BYTES)


@pytest.mark.usefixtures("writer")
def test_readers_need_no_lock(folder: Path, tmp_path: Path):
    reader = EpisodeStore(folder, MAX_BYTES, readonly=True)
    assert reader.last_commit() == 1
    reader.close()
    assert export_store(folder, tmp_path / "out").is_whole
    assert not verify_store(folder).damaged


def test_a_writer_that_is_killed_leaves_no_lock(folder: Path, writer: subprocess.Popen[bytes]):
    writer.kill()
    store = EpisodeStore(folder, MAX_BYTES)
    assert store.last_commit() == 1
    store.close()
