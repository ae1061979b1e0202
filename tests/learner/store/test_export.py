"""Export: whatever is broken in a store's file, what is whole comes out, and nothing else."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from learner.store.episode_store import EpisodeStore
from learner.store.export import ExportReport, export_store
from learner.store.retention import RetentionLimits
from learner.store.stored_episode import Burial, StoredEpisode, Verdict, pack_stored
from learner.store.verification import verify_store
from protocol.errors import ConfigurationError, StoreError, StoreFullError
from tests.delivery_site import ROOT
from tests.disks import small_disk
from tests.stored_records import MAX_BYTES, SPOOL, arrival, data_file, everything, tree_pages

PAGE = 4096

WRITER = """
import sys
from pathlib import Path
from learner.store.episode_store import EpisodeStore
from learner.store.retention import RetentionLimits
from tests.stored_records import arrival
store = EpisodeStore(Path(sys.argv[1]), 10**8, keep=RetentionLimits(log_bytes=800_000))
sequence = 1000
while True:
    store.commit([arrival(sequence + n) for n in range(10)])
    store.retire_some()
    sequence += 10
    print(sequence, flush=True)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything in it: two robots, retired, buried, missing, in conflict."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    store = EpisodeStore(folder, MAX_BYTES, keep=RetentionLimits(log_bytes=1_500_000))
    for first in range(1, 101, 25):
        robots = ("arm", "leg")
        store.commit([arrival(n, robot=r) for n in range(first, first + 25) for r in robots])
        while store.retire_some():
            pass
    burial = Burial(robot_id="arm", spool_id=SPOOL, sequence=101, last_sequence=103, reason="full")
    store.commit([arrival(100, what=" again"), burial, arrival(105), arrival(104, robot="leg")])
    store.close()
    return folder


def contents(folder: Path) -> dict[int, StoredEpisode]:
    store = EpisodeStore(folder, MAX_BYTES)
    found = everything(store)
    store.close()
    return found


def damaged_copy(source: Path, folder: Path, content: bytes) -> Path:
    assert data_file(source).read_bytes() != content, "nothing was damaged"
    folder.mkdir()
    data_file(folder).write_bytes(content)
    return folder


def test_a_whole_store_comes_out_as_it_is_and_a_learner_goes_on_with_it(
    source: Path, tmp_path: Path
):
    report = export_store(source, tmp_path / "out")
    assert report.is_whole
    assert contents(tmp_path / "out") == contents(source)
    before = EpisodeStore(source, MAX_BYTES)
    after = EpisodeStore(tmp_path / "out", MAX_BYTES)
    for robot in ("arm", "leg"):
        assert after.ledger(robot) == before.ledger(robot)
        assert after.missing(robot) == before.missing(robot)
    assert after.conflicts() == before.conflicts()
    assert after.retirements() == before.retirements()
    last = before.last_commit()
    before.close()
    assert report.retired == after.ledger("arm").retired + after.ledger("leg").retired > 0
    assert (report.tombstoned, report.conflicts) == (3, 1)
    verdicts = after.commit([arrival(1), arrival(1, what="?"), arrival(100), arrival(106)])
    assert verdicts[0] == verdicts[2] == Verdict.DUPLICATE
    assert verdicts[1] == Verdict.CONFLICT
    assert after.last_commit() == last + 1
    after.close()
    assert verify_store(tmp_path / "out").damaged == {}


def test_one_robots_part_comes_out_alone(source: Path, tmp_path: Path):
    report = export_store(source, tmp_path / "out", robot="leg")
    assert report.is_whole
    store = EpisodeStore(tmp_path / "out", MAX_BYTES)
    assert store.robots() == ["leg"]
    assert {episode.key.robot_id for episode in everything(store).values()} == {"leg"}
    assert store.ledger("leg").missing == 3
    store.close()


@pytest.mark.parametrize("seed", range(16))
def test_whatever_is_damaged_every_whole_record_comes_out_and_nothing_false(
    source: Path, tmp_path: Path, seed: int
):
    before = contents(source)
    wrong = damage(data_file(source).read_bytes(), random.Random(seed))
    broken = damaged_copy(source, tmp_path / "broken", wrong)
    report = export_store(broken, tmp_path / "out")
    found = contents(tmp_path / "out")
    assert report.exported == len(found)
    assert found.items() <= before.items(), "nothing false came out"
    whole = {number for number, one in before.items() if is_within(one, wrong)}
    assert whole <= found.keys()
    lost = len(before) - len(found)
    assert report.lost_episodes is None or report.lost_episodes >= lost or report.damaged_pages
    assert lost == 0 or not report.is_whole
    store = EpisodeStore(tmp_path / "out", MAX_BYTES)
    assert dict((number, key) for key, number in store.kept_keys()) == {
        number: episode.key for number, episode in found.items()
    }
    store.close()


def damage(content: bytes, draw: random.Random) -> bytes:
    """Cut, zero, overwrite, swap or flip, at places drawn at random."""
    wrong = bytearray(content)
    kind = draw.choice(["cut", "zero", "noise", "swap", "flip"])
    if kind == "cut":
        return bytes(wrong[: draw.randrange(len(wrong))])
    for _ in range(draw.choice([1, 3, 20])):
        at, other = (PAGE * draw.randrange(len(content) // PAGE) for _ in range(2))
        if kind == "flip":
            wrong[draw.randrange(len(wrong))] ^= 1 << draw.randrange(8)
        elif kind == "swap":
            wrong[at : at + PAGE] = content[other : other + PAGE]
        else:
            wrong[at : at + PAGE] = bytes(PAGE) if kind == "zero" else draw.randbytes(PAGE)
    wrong[-1] ^= 1  # never nothing
    return bytes(wrong)


def is_within(episode: StoredEpisode, content: bytes) -> bool:
    """Say whether a record lies whole in a file, with its head before it."""
    key = episode.key.packed()
    head = len(key) | 0x8000
    begin = head.to_bytes(2, "little") + episode.stored_at_ns.to_bytes(8, "little")
    begin += episode.digest + key + episode.number.to_bytes(8, "little")
    pattern = re.compile(re.escape(begin) + b".{8}" + re.escape(episode.record), re.DOTALL)
    return pattern.search(content) is not None


@pytest.mark.parametrize("table", ["log", "index", "the tables"])
def test_without_a_tree_the_records_are_found_by_themselves(
    source: Path, tmp_path: Path, table: str
):
    """All pages but those of large values are wiped: of a table, or of all."""
    content = bytearray(data_file(source).read_bytes())
    for at in range(0, len(content), PAGE):
        flags = int.from_bytes(content[at + 10 : at + 12], "little")
        is_tree = int.from_bytes(content[at : at + 8], "little") == at // PAGE and flags in (1, 2)
        is_log = is_tree and arrival(1).key.packed()[:20] not in content[at : at + PAGE]
        if is_tree and (table == "the tables" or is_log == (table == "log")):
            content[at : at + PAGE] = bytes(PAGE)
    broken = damaged_copy(source, tmp_path / "broken", bytes(content))
    report = export_store(broken, tmp_path / "out")
    before, found = contents(source), contents(tmp_path / "out")
    # Of a retired record that nothing says was retired, the pages may still be whole.
    assert before.items() <= found.items()
    assert all(one.record == arrival_of(one) for one in found.values())
    assert report.damaged_pages


def arrival_of(episode: StoredEpisode) -> bytes:
    return arrival(episode.key.sequence, robot=episode.key.robot_id).record


def test_what_was_lost_is_named_and_buried_with_its_reason(source: Path, tmp_path: Path):
    content = data_file(source).read_bytes()
    wrong = content.replace(b"arm/98;", b"?" * 7).replace(b"arm/99;", b"?" * 7)
    wrong = wrong.replace(b"leg/100;", b"?" * 8)
    broken = damaged_copy(source, tmp_path / "broken", wrong)
    report = export_store(broken, tmp_path / "out")
    assert report.lost == {"arm": {SPOOL.hex(): ["98-99"]}, "leg": {SPOOL.hex(): ["100"]}}
    assert (report.lost_episodes, report.is_whole) == (3, False)
    store = EpisodeStore(tmp_path / "out", MAX_BYTES)
    ledger = store.ledger("arm")
    assert (ledger.tombstoned, ledger.missing) == (5, 1)
    # The robot may still have one of them: it is taken as if it had never come.
    assert store.commit([arrival(98)]) == [Verdict.STORED]
    assert store.ledger("arm").tombstoned == 4
    store.close()


def test_of_half_a_file_nobody_says_that_nothing_was_lost(source: Path, tmp_path: Path):
    content = data_file(source).read_bytes()
    half = bytearray(content[: len(content) // 2 // PAGE * PAGE])
    for at in tree_pages(half):
        if b"tombstones" in half[at : at + PAGE]:
            half[at : at + PAGE] = bytes(PAGE)  # the table of tables
    folder = damaged_copy(source, tmp_path / "half", half)
    report = export_store(folder, tmp_path / "out")
    assert report.exported > 0
    assert (report.lost_episodes, report.is_whole, report.is_cut_short) == (None, False, True)
    assert (report.file_bytes, report.needed_bytes) == (len(half), len(content))


def test_a_store_that_a_learner_writes_to_comes_out_as_it_was_at_one_moment(
    source: Path, tmp_path: Path
):
    live = tmp_path / "live"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(live)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        while int(writer.stdout.readline()) < 1500:
            pass
        for turn in range(3):
            report = export_store(live, tmp_path / f"out-{turn}")
            assert report.is_whole
            numbers = list(contents(tmp_path / f"out-{turn}"))
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
        writer.kill()


@pytest.mark.parametrize("robot", [None, "leg"])
@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_store_that_grows_meanwhile_comes_out_as_it_was_when_it_was_opened(
    source: Path, tmp_path: Path, robot: str | None, is_damaged: bool
):
    content = bytearray(data_file(source).read_bytes())
    if is_damaged:
        content[content.index(b"leg/100;")] ^= 1
    live = tmp_path / "live"
    live.mkdir()
    data_file(live).write_bytes(content)

    def grow(done: int, _total: int) -> None:
        if done == 1:
            with data_file(live).open("ab") as file:
                file.write(content)  # as many records again, none of which was there before

    report = export_store(live, tmp_path / "out", robot=robot, on_progress=grow)
    assert report.is_whole is not is_damaged
    assert report.file_bytes == len(content)
    before, found = contents(source), contents(tmp_path / "out")
    wanted = {n: one for n, one in before.items() if robot in (None, one.key.robot_id)}
    assert len(found) == len(wanted) - is_damaged
    assert found.items() <= wanted.items()


def test_of_a_sound_store_one_robots_part_is_what_its_tree_leads_to(source: Path, tmp_path: Path):
    """And so is the whole: nobody searches the file for what a failed commit left in it."""
    stray = arrival(9_000, robot="leg")
    left = pack_stored(
        stray.key.packed(), stray.record, number=9_000, stored_at_ns=1, digest=stray.digest
    )
    with_stray = damaged_copy(source, tmp_path / "stray", data_file(source).read_bytes() + left)
    for robot in (None, "leg"):
        out = tmp_path / f"out-{robot}"
        assert export_store(with_stray, out, robot=robot).is_whole
        assert 9_000 not in contents(out)


def test_progress_is_told(source: Path, tmp_path: Path):
    seen: list[tuple[int, int]] = []
    report = export_store(
        source, tmp_path / "out", on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (report.exported, report.exported)


def test_an_existing_folder_is_never_written_to(source: Path, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="is there already"):
        export_store(source, tmp_path)
    with pytest.raises(StoreError, match="there is none yet"):
        export_store(tmp_path / "nowhere", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_in_words_and_leaves_nothing_behind(source: Path, tmp_path: Path):
    with small_disk(tmp_path / "disk", megabytes=2) as disk:
        with pytest.raises(StoreFullError, match="nothing of the copy is kept"):
            export_store(source, disk / "out")
        assert [path.name for path in disk.iterdir()] == ["ballast"]


def test_a_file_of_noise_gives_an_empty_store_and_no_crash(tmp_path: Path):
    (tmp_path / "noise").mkdir()
    data_file(tmp_path / "noise").write_bytes(random.Random(1).randbytes(50 * PAGE))
    report = export_store(tmp_path / "noise", tmp_path / "out")
    assert isinstance(report, ExportReport)
    assert (report.exported, report.is_whole) == (0, False)
    assert contents(tmp_path / "out") == {}
