"""The committer on a real store: what it answers, whatever becomes of the store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.ingestion.admission import Admitted, admit
from learner.ingestion.committer import Answer, Committer, Delivery, Sender
from learner.monitoring.fleet_state import FleetState
from learner.store.episode_store import EpisodeStore
from learner.store.retention import RetentionLimits
from learner.store.stored_episode import Burial, RecordKey
from protocol.codec import digest, encode_episode
from protocol.limits import LOGGED_REFUSALS
from protocol.messages import Ack, EpisodeSubmission, Refusal
from protocol.refusal_log import RefusalLog
from tests.episodes import make_episode
from tests.stored_records import SPOOL, data_file, wipe_trees
from tests.waiting import wait_until

MAX_BYTES = 10**8


class Desk:
    """A committer, and the answers that it gave so far."""

    def __init__(self, store: EpisodeStore) -> None:
        self.store = store
        self.fleet = FleetState()
        self.committer = Committer(
            store,
            self.fleet,
            RefusalLog(logging.getLogger(__name__)),
            self._collect,
        )
        self.answers: list[Answer] = []
        self._lock = threading.Lock()

    def _collect(self) -> None:
        with self._lock:
            self.answers += self.committer.take_answers()

    def submit(self, sequence: int, robot: str = "arm", *, seed: int | None = None) -> None:
        seed = sequence if seed is None else seed
        record = encode_episode(make_episode(robot, seed=seed))
        message = EpisodeSubmission(spool_id=SPOOL, sequence=sequence, digest=digest(record))
        admitted = admit(message, record, robot)
        assert isinstance(admitted, Admitted)
        sender = Sender(routing_id=robot.encode(), robot_id=robot)
        self.committer.submit(Delivery(sender=sender, item=admitted.arrival, facts=admitted.facts))
        self.committer.commit_submitted()

    def acked(self, robot: str = "arm") -> set[int]:
        return {
            sequence
            for answer in self.answers
            if isinstance(answer.message, Ack) and answer.sender.robot_id == robot
            for sequence in answer.message.sequences
        }

    def refusals(self, robot: str = "arm") -> list[Refusal]:
        return [
            answer.message
            for answer in self.answers
            if isinstance(answer.message, Refusal) and answer.sender.robot_id == robot
        ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def desk(folder: Path) -> Iterator[Desk]:
    store = EpisodeStore(folder, MAX_BYTES, keep=RetentionLimits(log_bytes=400_000))
    desk = Desk(store)
    desk.committer.start()
    yield desk
    desk.committer.stop()
    store.close()


def test_the_committer_retires_what_is_too_much_while_it_acks_everything(desk: Desk):
    for sequence in range(1, 201):
        desk.submit(sequence)
    wait_until(lambda: desk.acked() == set(range(1, 201)), "all are acked")
    wait_until(lambda: desk.store.ledger("arm").retired > 100, "the oldest are retired")
    desk.submit(1)
    wait_until(lambda: desk.store.ledger("arm").duplicates == 1, "the oldest is still known")
    assert desk.store.ledger("arm").missing == 0


def test_more_conflicts_of_a_robot_than_are_kept_are_refused_so_that_it_sets_them_aside(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("learner.store.transaction.CONFLICTS_KEPT", 3)
    for seed in range(1, 7):
        desk.submit(1, seed=seed)
    desk.submit(1, seed=2)
    desk.submit(2)
    desk.submit(1, robot="leg")
    wait_until(lambda: desk.acked() == {1, 2} and desk.acked("leg") == {1}, "the others are taken")
    wait_until(lambda: len(desk.refusals()) == 2, "two were too many")
    assert {(one.code, one.sequence) for one in desk.refusals()} == {("conflicts", 1)}
    ledger = desk.store.ledger("arm")
    assert (ledger.stored, ledger.conflicts, ledger.duplicates) == (2, 3, 1)
    assert len(desk.store.conflicts()) == 3


def test_a_robot_that_begins_spools_without_end_is_refused_and_others_are_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("learner.store.transaction.SPOOLS_KEPT", 3)
    sender = Sender(routing_id=b"evil", robot_id="evil")
    for at in range(6):
        item = Burial(
            robot_id="evil", spool_id=bytes([at]) * 16, sequence=7, last_sequence=7, reason=""
        )
        desk.committer.submit(Delivery(sender=sender, item=item))
    desk.committer.commit_submitted()
    wait_until(lambda: len(desk.refusals("evil")) == 3, "three were too many")
    desk.submit(1, robot="evil")
    desk.submit(1)
    wait_until(lambda: desk.acked() == {1}, "another robot begins its first")
    assert [one.code for one in desk.refusals("evil")] == ["spools"] * 4
    assert {one.sequence for one in desk.refusals("evil")} == {None}, "the robot keeps it"
    assert len(desk.store.spools("evil")) == 3
    assert (desk.store.ledger("evil").stored, desk.store.ledger("evil").tombstoned) == (0, 3)
    assert desk.store.get(RecordKey(robot_id="evil", spool_id=SPOOL, sequence=1)) is None


def test_a_robot_that_gives_up_without_end_is_refused_delivers_on_and_others_are_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("learner.store.transaction.MAX_TOMBSTONES", 10)

    def give_up(robot: str, first: int, last: int, spool_id: bytes = SPOOL) -> None:
        item = Burial(
            robot_id=robot, spool_id=spool_id, sequence=first, last_sequence=last, reason="gone"
        )
        sender = Sender(routing_id=robot.encode(), robot_id=robot)
        desk.committer.submit(Delivery(sender=sender, item=item))

    give_up("evil", 1, 6)
    give_up("evil", 1, 3, bytes(16))
    give_up("evil", 7, 8)
    give_up("evil", 7, 7)
    desk.committer.commit_submitted()
    wait_until(lambda: len(desk.refusals("evil")) == 1, "two would be eleven, over all spools")
    give_up("evil", 8, 8)
    give_up("evil", 2, 6)
    give_up("arm", 1, 9)
    desk.committer.commit_submitted()
    wait_until(lambda: desk.acked() == set(range(1, 10)), "another robot gives up its first")
    desk.submit(9, robot="evil")
    wait_until(lambda: 9 in desk.acked("evil"), "a record is taken all the same")
    assert desk.acked("evil") == {1, 2, 3, 4, 5, 6, 7, 9}, "what is told again is acked again"
    assert [(one.code, one.sequence) for one in desk.refusals("evil")] == [("tombstone", None)] * 2
    assert desk.store.ledger("evil").tombstoned == 10
    assert desk.fleet.refusals() == {"tombstone": 2}


def test_a_robot_with_as_many_spools_as_are_kept_goes_on_in_them(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("learner.store.transaction.SPOOLS_KEPT", 1)
    desk.submit(1)
    wait_until(lambda: desk.acked() == {1}, "the one")
    desk.submit(2)
    wait_until(lambda: desk.acked() == {1, 2}, "and what follows in it")
    assert desk.refusals() == []


def test_damage_to_a_running_store_is_said_to_the_robots_and_loses_nothing_silently(
    desk: Desk, folder: Path, caplog: pytest.LogCaptureFixture
):
    desk.submit(1)
    wait_until(lambda: desk.acked() == {1}, "acked while the store is whole")
    with caplog.at_level(logging.CRITICAL, logger="learner"):
        wipe_trees(folder)
        for sequence in (2, 3):
            desk.submit(sequence)
        wait_until(lambda: bool(desk.refusals()), "refused in words")
        assert {one.code for one in desk.refusals()} == {"store-unavailable"}
        assert {one.sequence for one in desk.refusals()} == {None}, "the robot keeps them"
        assert desk.acked() == {1}
        desk.submit(4, robot="leg")
        wait_until(lambda: bool(desk.refusals("leg")), "the committer lives on")


def test_a_robot_whose_ledger_is_damaged_does_not_stop_the_others(desk: Desk, folder: Path):
    desk.submit(1)
    desk.submit(1, robot="leg")
    wait_until(lambda: desk.acked() == desk.acked("leg") == {1}, "acked while all is whole")
    data = data_file(folder)
    content = data.read_bytes()
    # Only what the ledger says of one robot: its name stays, what follows it is no ledger.
    at = content.rindex(b"arm\0" + SPOOL + b"\x84")
    with data.open("r+b") as file:
        file.seek(at + 4 + len(SPOOL))
        file.write(b"\xc1" * 8)
    for sequence in range(2, 6):
        desk.submit(sequence)
        desk.submit(sequence, robot="leg")
    wait_until(lambda: desk.acked("leg") == set(range(1, 6)), "the other robot's are stored")
    assert {one.code for one in desk.refusals()} == {"store-unavailable"}
    assert desk.acked() == {1}


def test_a_full_store_is_said_to_the_robots_every_time_and_to_the_log_a_few_times(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    store = EpisodeStore(tmp_path / "small", 400_000)
    desk = Desk(store)
    desk.committer.start()
    sequence = 0
    while len(desk.refusals()) < 3 * LOGGED_REFUSALS:
        sequence += 1
        desk.submit(sequence)
        wait_until(lambda: desk.committer.queued_bytes == 0, "stored or refused")
    desk.committer.stop()
    store.close()
    assert {one.code for one in desk.refusals()} == {"store-full"}
    lines = [line for line in caplog.messages if "max_store_bytes" in line]
    assert len(lines) == LOGGED_REFUSALS
