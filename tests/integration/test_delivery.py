"""The data path with real processes, real sockets, encryption, and a hand on the plug."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import lmdb
import pytest

from learner.stored_episode import StoredEpisode
from protocol.codec import decode_episode
from protocol.errors import ConfigurationError
from robot_agent.outbox import outbox_counts
from tests.delivery_site import DeliverySite, make_site, wait_until

EPISODES = 400
ROBOTS = ("arm-a", "arm-b")


@pytest.fixture
def site(tmp_path: Path) -> DeliverySite:
    return make_site(tmp_path)


def raw_records(folder: Path) -> list[StoredEpisode]:
    """Read the log with LMDB alone, past everything the store class does."""
    with lmdb.open(str(folder), readonly=True, max_dbs=8, map_size=2 * 10**9) as environment:
        table = environment.open_db(b"log", create=False)
        with environment.begin(db=table) as transaction:
            return [StoredEpisode.unpacked(value) for _, value in transaction.cursor()]


def acked(site: DeliverySite, name: str) -> int:
    try:
        return outbox_counts(site.outbox_folder(name)).acked
    except ConfigurationError:
        return 0  # the robot has not made its outbox yet


def kill(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_every_episode_is_stored_once_however_often_both_sides_are_killed(site: DeliverySite):
    for name in ROBOTS:
        site.enrol(name)
    gateway = site.start("gateway")
    robots = {name: site.start("robot", name, str(EPISODES)) for name in ROBOTS}
    try:
        for part in (1, 2, 3):
            goal = EPISODES * part // 5
            wait_until(
                lambda goal=goal: all(acked(site, name) >= goal for name in ROBOTS),
                f"{goal} acked of each robot",
            )
            assert all(acked(site, name) < EPISODES for name in ROBOTS), "killed in mid-stream"
            kill(gateway)
            victim = ROBOTS[part % 2]
            kill(robots[victim])
            gateway = site.start("gateway")
            robots[victim] = site.start("robot", victim, str(EPISODES))
        assert [robots[name].wait(60) for name in ROBOTS] == [0, 0]
    finally:
        for process in (gateway, *robots.values()):
            process.terminate()
            process.wait(20)

    records = raw_records(site.store)
    counts = {name: outbox_counts(site.outbox_folder(name)) for name in ROBOTS}
    expected = {
        (name, counts[name].spool_id, sequence): 1
        for name in ROBOTS
        for sequence in range(1, EPISODES + 1)
    }
    found = Counter((r.key.robot_id, r.key.spool_id, r.key.sequence) for r in records)
    assert found == expected
    assert all(one.acked == one.written == EPISODES for one in counts.values())
    assert {decode_episode(record.record).robot_id for record in records} == set(ROBOTS)
