"""Ctrl-C, a killed robot, a killed demo, a second session: nothing is lost, nobody is orphaned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fleet.commands.output import EXIT_NOT_WELL
from tests.integration.fleet_runs import demo_arguments
from tests.waiting import wait_until

ROBOTS = 2


@pytest.fixture
def start_demo() -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    started = []

    def start(out: Path) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                demo_arguments(out, minutes=10, robots=ROBOTS, learner=None),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        return started[-1]

    yield start
    for demo in started:
        demo.kill()
        demo.wait()


def stored_by_robot(out: Path) -> dict[str, int]:
    """Ask the learner; nothing before it answers."""
    status = subprocess.run(
        [sys.executable, "-m", "fleet", "status", "--json", "--run", str(out)],
        capture_output=True,
        text=True,
    )
    if status.returncode not in (0, EXIT_NOT_WELL):
        return {}
    return {robot["robot_id"]: robot["stored"] for robot in json.loads(status.stdout)["robots"]}


def stored_in(out: Path) -> int:
    return sum(stored_by_robot(out).values())


def every_robot_delivered(out: Path, least: int, beyond: dict[str, int]) -> bool:
    """Say whether each robot has ``least`` more episodes in the store than ``beyond`` says."""
    stored = stored_by_robot(out)
    return len(stored) == ROBOTS and all(
        count >= beyond.get(robot, 0) + least for robot, count in stored.items()
    )


def agents_of(demo: subprocess.Popen[bytes]) -> list[psutil.Process]:
    everyone = psutil.process_iter(["ppid", "cmdline"])
    ours = [one for one in everyone if one.info["ppid"] == demo.pid]
    return [one for one in ours if "robot_agent" in (one.info["cmdline"] or [])]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.timeout(600)
def test_ctrl_c_keeps_what_was_stored_and_a_second_session_goes_on(tmp_path: Path, start_demo):
    out = tmp_path / "run"
    first = start_demo(out)
    wait_until(lambda: every_robot_delivered(out, 10, beyond={}), "first episodes are stored", 150)
    family = psutil.Process(first.pid).children(recursive=True)
    robbed = agents_of(first)[0]
    robbed.kill()
    wait_until(lambda: not alive([robbed]), "the agent is killed")
    then = stored_by_robot(out)
    wait_until(lambda: every_robot_delivered(out, 10, beyond=then), "the killed agent is back", 150)
    first.send_signal(signal.SIGINT)
    assert first.wait(120) == 130
    wait_until(lambda: not alive(family), "every process has ended")
    before = json.loads((out / "summary.json").read_text())
    assert before["interrupted"]
    assert list(before["restarts"].values()) == [1]
    assert before["episodes_missing"] == before["episodes_duplicated"] == 0
    assert before["episodes_sent"] == before["episodes_stored"] > 20
    assert before["episodes_left_in_outboxes"] == 0

    second = start_demo(out)
    wait_until(lambda: stored_in(out) > before["episodes_stored"] + 20, "more are stored", 150)
    orphans = psutil.Process(second.pid).children(recursive=True)
    second.kill()
    second.wait()
    wait_until(lambda: not alive(orphans), "a killed demo leaves no orphan")

    third = start_demo(out)
    wait_until(lambda: len(stored_by_robot(out)) == ROBOTS, "the learner answers", 150)
    # Robots that are only starting are no session: what they have still to tell stays with them.
    then = stored_by_robot(out)
    wait_until(lambda: every_robot_delivered(out, 10, beyond=then), "and still more", 150)
    os.kill(third.pid, signal.SIGTERM)
    assert third.wait(120) == 130
    after = json.loads((out / "summary.json").read_text())
    assert after["episodes_sent"] == after["episodes_stored"] > before["episodes_stored"] + 40
    assert after["episodes_missing"] == after["episodes_duplicated"] == 0
    assert after["curve"][-1]["time_s"] > before["curve"][-1]["time_s"]
    verified = subprocess.run(
        [sys.executable, "-m", "fleet", "episodes", "verify", "--run", str(out)]
    )
    assert verified.returncode == 0
