"""The processes of one machine: which of them are started again."""

from __future__ import annotations

import time

import psutil
import pytest

from fleet.local_fleet import FleetEndedError, LocalFleet
from fleet.run_folder import RunFolder
from protocol.configuration import load_toml
from robot_agent.config import AgentConfig


def test_a_robot_with_a_safety_fault_is_left_to_a_person(folder: RunFolder):
    toml = folder.robot_config("robot-01")
    driver = load_toml(toml, AgentConfig).robot.driver
    text = toml.read_text().replace(driver, "tests.robot_agent.faulty_robot:FaultyRobot")
    options = '[robot.options]\nfail_at = 1\nfault = "safety-fault"\n'
    toml.write_text(text.replace("[robot.options]\n", options))
    said: list[str] = []
    fleet = LocalFleet(folder, ["robot-01"], say=said.append)
    fleet.start_agents()
    (agent,) = psutil.Process().children()
    deadline = time.monotonic() + 20
    while agent.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    with pytest.raises(FleetEndedError, match="every robot's agent ended"):
        fleet.tend()

    assert any("robot-01 ended with status 3; not starting it again" in line for line in said)
    fleet.kill()
