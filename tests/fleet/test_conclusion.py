"""What a person is told at the end of a run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fleet.conclusion import conclude
from fleet.fleet_files import FleetPlan, agent_config, prepare_run_folder
from fleet.run_folder import FleetRecord, RunFolder
from protocol.codec import encode_episode
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox
from tests.episodes import make_episode
from tests.fleet.deliveries import deliver
from tests.integration.fleet_runs import demo_arguments


def leave_in_outbox(folder: RunFolder, name: str, count: int) -> None:
    outbox = Outbox(agent_config(folder, name).state_folder, OutboxConfig())
    for index in range(count):
        outbox.put(encode_episode(make_episode(name, seed=50 + index)))
    outbox.close()


def test_episodes_that_wait_in_outboxes_are_named_with_what_keeps_them_there(folder: RunFolder):
    deliver(folder, "robot-01")
    leave_in_outbox(folder, "robot-01", 3)
    leave_in_outbox(folder, "robot-02", 2)
    (folder.registry / "robot-01.key").write_text("?")
    said = conclude(folder, FleetRecord(), None, unheard=["robot-02"])
    waits = "5 wait in outboxes (robot-01: 3, not enrolled; robot-02: 2, never connected)"
    assert said[1] == waits


def test_where_there_is_no_store_what_waits_is_told_all_the_same(folder: RunFolder):
    leave_in_outbox(folder, "robot-01", 1)
    assert conclude(folder, FleetRecord(), None)[1] == "1 wait in outboxes (robot-01: 1)"


@pytest.mark.slow
def test_a_demo_fails_when_a_robot_never_connected(tmp_path: Path):
    folder = RunFolder(root=tmp_path / "run")
    prepare_run_folder(folder, FleetPlan(robots=1, seed=0))
    (folder.registry / "robot-01.key").write_text("?")
    # On a busy machine the demo may be over before the first attempt is.
    leave_in_outbox(folder, "robot-01", 1)
    command = demo_arguments(folder.root, minutes=0.2, robots=1, learner=None)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    assert "robot-01 never connected to the learner" in ended.stderr
    assert ", not enrolled)" in ended.stdout
