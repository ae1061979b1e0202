"""The store as the operator's tools see it, on a real store and real outboxes."""

from __future__ import annotations

import cv2
import pytest

from fleet.episodes import export_lines, newest
from fleet.film_strip import draw_film_strip
from fleet.fleet_files import agent_config
from fleet.store_reader import find_episode, open_store, stored_attempts
from fleet.verification import verify
from learner.store.episode_store import EpisodeStore
from learner.store.export import export_store
from learner.store.lmdb_pages import PageFile
from learner.store.retention import RetentionLimits
from learner.store.stored_episode import Arrival, RecordKey
from protocol.codec import digest, encode_episode
from protocol.errors import StoreError
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox
from tests.episodes import make_episode
from tests.fleet.deliveries import EPISODES, deliver
from tests.stored_records import PAGE, tree_pages


def test_what_was_sent_is_found_stored_once(folder):
    deliver(folder, "robot-01")
    deliver(folder, "robot-02", seed=100)
    verification = verify([folder.store], folder.root)
    assert verification.sound
    for counts in verification.robots.values():
        assert counts.sent == counts.stored == counts.written == EPISODES


def test_what_is_stored_before_its_outbox_knows_is_said_to_be_on_its_way(folder):
    deliver(folder, "robot-01")
    deliver(folder, "robot-02", seed=100)
    outbox = Outbox(agent_config(folder, "robot-01").state_folder, OutboxConfig())
    record = encode_episode(make_episode("robot-01", seed=50))
    key = RecordKey(robot_id="robot-01", spool_id=outbox.spool_id, sequence=outbox.put(record))
    store = EpisodeStore(folder.store, 2**28)
    store.commit([Arrival(key=key, digest=digest(record), record=record, letter="s")])
    store.close()
    outbox.close()
    verification = verify([folder.store], folder.root)
    assert verification.sound
    assert verification.findings() == [
        "robot-01: 1 more stored than its outbox knew to have sent: it delivers still, or an ack "
        "has not reached it"
    ]


def test_an_episode_that_was_acked_and_is_not_there_is_missing(folder):
    deliver(folder, "robot-01", lost=(2, EPISODES))
    verification = verify([folder.store], folder.root)
    assert not verification.sound
    assert verification.robots["robot-01"].missing == 2


def test_missing_and_damaged_sequences_are_named(folder):
    deliver(folder, "robot-01", lost=(2,))
    deliver(folder, "robot-02", seed=100)
    data = folder.store / "data.mdb"
    doomed = make_episode("robot-02", seed=103).episode_id.encode()
    data.write_bytes(data.read_bytes().replace(doomed, b"?" * len(doomed)))
    verification = verify([folder.store], folder.root)
    assert not verification.sound
    (missing,) = verification.missing_sequences["robot-01"].values()
    (damaged,) = verification.damaged_sequences["robot-02"].values()
    assert (missing, damaged) == (["2"], ["4"])
    counts = verification.robots["robot-02"]
    assert (counts.damaged, counts.missing, counts.stored) == (1, 0, EPISODES - 1)
    said = "\n".join(verification.findings())
    assert "robot-01: missing of spool" in said
    assert "robot-02: damaged of spool" in said


def test_what_was_retired_is_not_missing(folder):
    deliver(folder, "robot-01")
    store = EpisodeStore(folder.store, 2**28, keep=RetentionLimits(log_bytes=1))
    while store.retire_some():
        pass
    store.close()
    verification = verify([folder.store], folder.root)
    assert verification.sound
    counts = verification.robots["robot-01"]
    assert (counts.stored, counts.retired, counts.sent) == (1, EPISODES - 1, EPISODES)
    assert "retired by size: 4 episodes" in verification.findings()[0]


def test_what_an_export_lost_is_accounted_for_in_the_new_store(folder, tmp_path):
    deliver(folder, "robot-01")
    data = folder.store / "data.mdb"
    doomed = make_episode("robot-01", seed=2).episode_id.encode()
    data.write_bytes(data.read_bytes().replace(doomed, b"?" * len(doomed)))
    report = export_store(folder.store, tmp_path / "new")
    assert report.lost_episodes == 1
    verification = verify([tmp_path / "new"], folder.root)
    counts = verification.robots["robot-01"]
    assert (counts.stored, counts.tombstoned, counts.missing) == (EPISODES - 1, 1, 0)
    assert verification.sound


def test_an_export_of_a_file_without_its_end_says_so(folder, tmp_path):
    deliver(folder, "robot-01")
    data = folder.store / "data.mdb"
    content = data.read_bytes()
    half = bytearray(content[: len(content) // 2 // PAGE * PAGE])
    for at in tree_pages(half):
        if b"tombstones" in half[at : at + PAGE]:
            half[at : at + PAGE] = bytes(PAGE)  # the table of tables
    data.write_bytes(half)
    report = export_store(folder.store, tmp_path / "new")
    said = export_lines(report, tmp_path / "new")
    assert f"{len(half)} of {len(content)} bytes of the file are there" in said
    assert "how many were lost is not known: the file's own count cannot be read" in said


def test_an_alarm_is_said_when_two_records_share_a_key(folder):
    deliver(folder, "robot-01")
    store = EpisodeStore(folder.store, 2**28)
    ((_, first),) = store.tail(0, 1)
    record = first.record + b"!"
    store.commit([Arrival(key=first.key, digest=digest(record), record=record, letter="s")])
    store.close()
    verification = verify([folder.store], folder.root)
    assert not verification.sound
    assert any(line.startswith("ALARM: 1 episode of robot-01") for line in verification.findings())


def test_the_same_episode_under_two_sequences_is_doubled(folder):
    deliver(folder, "robot-01", seed=0)
    deliver(folder, "robot-01", seed=0)
    verification = verify([folder.store], folder.root)
    assert verification.robots["robot-01"].duplicated == EPISODES


def test_attempts_are_read_in_the_order_in_which_they_came(folder):
    deliver(folder, "robot-01")
    with open_store(folder.store) as store:
        found = list(stored_attempts(store))
    assert [one.sequence for one in found] == [1, 2, 3, 4, 5]
    assert [one.attempt.success for one in found] == [True, False, True, False, True]
    assert all(len(one.attempt.decision_ms) == 4 for one in found)


def test_the_newest_episodes_are_found_without_reading_the_old_ones(folder, caplog):
    record = encode_episode(make_episode("robot-01", steps=1))
    store = EpisodeStore(folder.store, 2**28)
    for sequence in range(1, 601):
        robot = "robot-02" if sequence in (20, 580) else "robot-01"
        key = RecordKey(robot_id=robot, spool_id=bytes(16), sequence=sequence)
        store.commit([Arrival(key=key, digest=digest(record), record=record, letter="s")])
    store.close()
    with PageFile(folder.store / "data.mdb") as pages:
        rotten = next(row.offset for row in pages.rows("log")) + 500
    with (folder.store / "data.mdb").open("r+b") as file:
        file.seek(rotten)
        file.write(b"rotten")
    found = newest([folder.store], robot=None, last=20)
    assert [one.number for one in found] == list(range(581, 601))
    assert caplog.text == "", "the oldest record was not read"
    found = newest([folder.store], robot="robot-02", last=20)
    assert [one.number for one in found] == [20, 580]
    assert "commit 1 is left out" in caplog.text


def test_an_episode_is_found_by_how_its_id_begins_and_only_if_no_other_does(folder):
    deliver(folder, "robot-01")
    wanted = make_episode("robot-01", seed=3).episode_id
    with open_store(folder.store) as store:
        episode, robot = find_episode([store], wanted[:10])
        assert (episode.episode_id, robot) == (wanted, "robot-01")
        with pytest.raises(StoreError, match="5 episodes have an id that begins with ''"):
            find_episode([store], "")


def test_reading_a_store_that_is_not_there_says_so(tmp_path):
    with pytest.raises(StoreError, match="there is none yet"), open_store(tmp_path / "nothing"):
        pass


def test_film_strip_is_drawn_of_any_number_of_steps(tmp_path):
    for steps in (1, 4, 11):
        path = tmp_path / f"{steps}.png"
        draw_film_strip(make_episode(steps=steps), path)
        height, width, _ = cv2.imread(str(path)).shape
        assert width == round(1.95 * min(steps + 2, 6) * 160)
        assert height > 400
