"""The data path with real processes, real sockets, encryption, and a hand on the plug."""

from __future__ import annotations

import os
import signal
import subprocess

from protocol.errors import ConfigurationError
from robot_agent.delivery.outbox import outbox_counts
from tests.chaos.independent_reader import compare, read_store
from tests.delivery_site import DeliverySite
from tests.waiting import PATIENCE_S, wait_until

EPISODES = 400
ROBOTS = ("arm-a", "arm-b")


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
            goal = EPISODES * len(ROBOTS) * part // 5
            wait_until(
                lambda goal=goal: sum(acked(site, name) for name in ROBOTS) >= goal,
                f"{goal} acked of all robots",
            )
            # The one that is behind: the other may be through already on a busy machine.
            victim = min(ROBOTS, key=lambda name: acked(site, name))
            assert acked(site, victim) < EPISODES, "killed in mid-stream"
            kill(gateway)
            kill(robots[victim])
            gateway = site.start("gateway")
            robots[victim] = site.start("robot", victim, str(EPISODES))
        assert [robots[name].wait(60) for name in ROBOTS] == [0, 0]
    finally:
        for process in (gateway, *robots.values()):
            process.terminate()
            process.wait(PATIENCE_S)

    outboxes = {name: site.outbox_folder(name) / "outbox.sqlite3" for name in ROBOTS}
    found = compare(read_store(site.store), outboxes, journals={})
    assert found.is_clean, found
    assert found.stored == found.expected == EPISODES * len(ROBOTS)
    counts = [outbox_counts(site.outbox_folder(name)) for name in ROBOTS]
    assert all(one.acked == one.written == EPISODES for one in counts)
