"""The processes of one machine: which of them are started again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from fleet.child_process import ChildProcess
from fleet.key_rotation import KeyRotation
from fleet.local_fleet import FleetEndedError, LocalFleet, _end
from fleet.operator import operator_connection
from fleet.run_folder import RunFolder
from fleet.status import StatusClient
from learner.config import LearnerConfig
from learner.ingestion.gateway import Gateway
from protocol.configuration import load_toml
from protocol.registry import Registry
from robot_agent.config import AgentConfig
from tests.waiting import wait_until


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
    deadline = time.monotonic() + 60
    # Its end is the fleet's to see. A zombie may still have threads that are ending.
    has_ended = os.WEXITED | os.WNOWAIT | os.WNOHANG
    while os.waitid(os.P_PID, agent.pid, has_ended) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    with pytest.raises(FleetEndedError, match=r"every robot's agent ended; .*robot-01\.log$"):
        fleet.tend()

    assert said[-1].startswith("robot-01 ended with status 3; not starting it again. Its log (")
    fleet.kill()


def test_a_learner_that_ended_by_itself_is_a_failure_also_when_nobody_noticed(folder: RunFolder):
    folder.learner_config.write_text("not TOML")
    fleet = LocalFleet(folder, [], say=lambda _: None)
    fleet._learner.process.start()
    assert fleet._learner.process.wait(60) == 2
    with pytest.raises(FleetEndedError, match=r"ended by itself.*\n(.*\n)*.*not TOML"):
        fleet.end_learner(1.0)


def test_what_the_log_of_a_learner_ends_with_is_told_once(folder: RunFolder):
    folder.learner_config.write_text("not TOML")
    said: list[str] = []
    fleet = LocalFleet(folder, [], say=said.append)
    fleet._learner.process.start()
    assert fleet._learner.process.wait(60) == 2
    with pytest.raises(FleetEndedError, match="not TOML"):
        fleet.tend()
    assert said == ["learner ended with status 2; not starting it again"]


@pytest.mark.parametrize(
    ("at_sigterm", "reported"),
    [
        ("signal.SIG_DFL", False),
        ("lambda number, frame: sys.exit(number)", False),
        ("lambda number, frame: sys.exit(7)", True),
    ],
)
def test_of_processes_that_were_asked_to_end_only_another_status_is_reported(
    tmp_path: Path, at_sigterm: str, reported: bool
):
    ready = tmp_path / "ready"
    code = "import signal, sys, time; from pathlib import Path\n"
    code += f"signal.signal(signal.SIGTERM, {at_sigterm})\n"
    code += f"Path({str(ready)!r}).touch(); time.sleep(60)"
    process = ChildProcess("learner", ["-c", code], log=tmp_path / "log")
    process.start()
    wait_until(ready.exists, "the process is up")
    said: list[str] = []
    _end([process], 20.0, said.append)
    assert said == ([f"learner ended with status 7; see {process.log}"] if reported else [])


def test_the_fleets_status_goes_on_when_the_learner_has_changed_its_key(folder: RunFolder):
    config = load_toml(folder.learner_config, LearnerConfig)
    gateway = Gateway(config.gateway, config.keys.server_secret, config.keys.registry)
    gateway.start()
    fleet = LocalFleet(folder, [], say=lambda _: None)
    fleet._status = StatusClient(*operator_connection(folder))
    try:
        wait_until(lambda: fleet.status(2.0) is not None, "the gateway answers")
        rotation = KeyRotation(folder.keys, Registry(folder.registry))
        rotation.begin()
        rotation.finish(force=True)
        wait_until(lambda: fleet.status(0.5) is None, "the gateway has the next key")
        wait_until(lambda: fleet.status(2.0) is not None, "the gateway answers again")
    finally:
        fleet.kill()
        gateway.stop()
