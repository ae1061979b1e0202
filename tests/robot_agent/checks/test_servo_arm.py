"""The doctor before an SO-101 whose servos are emulated behind a pseudo-terminal."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from robot_agent.arms.joint_calibration import FILE as JOINT_CALIBRATION
from robot_agent.arms.joint_calibration import JointCalibration
from robot_agent.arms.servo_checks import check_bus
from robot_agent.checks.arm import check_gripper, check_parts, check_pose, check_reach
from robot_agent.checks.calibration import check_calibration
from robot_agent.checks.doctor import examine
from robot_agent.config import AgentConfig, DriverConfig, WorkspaceConfig
from robot_agent.robots.check_result import Verdict
from robot_agent.robots.so101 import SO101
from robot_agent.safety.emergency_stop import EmergencyStop
from robot_agent.safety.stop_latch import StopLatch
from tests.delivery_site import ROOT
from tests.robot_agent.robots.emulated_arms import EmulatedArm, emulated_so101
from tests.robot_agent.simulated_agent import make_config


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[EmulatedArm]:
    with emulated_so101(tmp_path / "arm") as arm:
        yield arm


@pytest.fixture
def config(tmp_path: Path, arm: EmulatedArm) -> AgentConfig:
    options = {"port": str(arm.port.path), **arm.options}
    driver = DriverConfig(driver="robot_agent.robots.so101:SO101", options=options)
    return make_config(arm.site.state_folder, robot=driver)


def test_every_servo_says_how_it_is_and_none_moves(arm: EmulatedArm, config: AgentConfig):
    before = arm.positions_rad
    robot: SO101 = arm.open()
    results = [*check_parts(robot, config), *check_pose(robot)]
    robot.close()
    assert all(one.verdict == Verdict.OK for one in results), results
    assert {"servo shoulder_pan", "servo gripper", "pose"} <= {one.subject for one in results}
    assert arm.positions_rad == before


def test_a_bus_that_damages_answers_is_told(arm: EmulatedArm, config: AgentConfig):
    robot: SO101 = arm.open()
    arm.port.faults.garbled = 2
    (loose,) = check_bus(robot.servos)
    (well,) = [one for one in check_parts(robot, config) if one.subject == "servo bus"]
    robot.close()
    assert loose.verdict == Verdict.WARN
    assert "damaged answers" in loose.finding
    assert well.verdict == Verdict.OK


def test_the_workspace_that_an_so101_is_installed_with_can_be_had(
    arm: EmulatedArm, config: AgentConfig
):
    table = tomllib.loads((ROOT / "deploy/robot/so101.toml").read_text())
    limits = {axis: tuple(table["workspace"][axis]) for axis in ("x_m", "y_m", "z_m")}
    robot: SO101 = arm.open(mount=table["robot"]["options"]["mount"])
    ours = dataclasses.replace(config, workspace=WorkspaceConfig(**limits))
    (given,) = check_reach(robot, ours)
    wide = dataclasses.replace(config, workspace=WorkspaceConfig(**limits | {"x_m": (-0.1, 0.4)}))
    (too_wide,) = check_reach(robot, wide)
    robot.close()
    assert given.verdict == Verdict.OK, given
    assert too_wide.verdict == Verdict.WARN


def test_a_workspace_that_lies_partly_too_near_to_the_arm_is_told(
    arm: EmulatedArm, config: AgentConfig
):
    robot: SO101 = arm.open(mount={"x_m": 0.0, "y_m": 0.15, "z_m": 0.12, "yaw_rad": -1.5708})
    limits = WorkspaceConfig(x_m=(-0.1, 0.1), y_m=(-0.07, 0.07), z_m=(0.005, 0.14))
    (result,) = check_reach(robot, dataclasses.replace(config, workspace=limits))
    robot.close()
    assert result.verdict == Verdict.WARN
    assert "worst x 0.000, y 0.070" in result.finding  # every corner can be had


def test_an_arm_that_was_never_calibrated_is_one_failure_that_says_to_calibrate_it(
    arm: EmulatedArm, config: AgentConfig
):
    (config.state_folder / JOINT_CALIBRATION).unlink()
    with EmergencyStop(config.name, StopLatch(config.state_folder)) as emergency:
        skip = ["network", "camera", "disk", "keys"]
        results = list(examine(config, skip=skip, emergency=emergency))
    (failure,) = [one for one in results if one.verdict == Verdict.FAIL]
    assert failure.subject == "joints"
    assert failure.remedy == "run: robot-agent calibrate"
    assert "servo shoulder_pan" in {one.subject for one in results}


def test_a_calibration_from_before_servos_were_asked_is_a_warning(
    arm: EmulatedArm, config: AgentConfig
):
    measured = JointCalibration.read(config.state_folder)
    assert measured is not None
    assert "joints" not in {one.subject for one in check_calibration(config)}
    msgspec.structs.replace(measured, servos=(), gripper_servo=None).write(config.state_folder)
    (result,) = [one for one in check_calibration(config) if one.subject == "joints"]
    assert result.verdict == Verdict.WARN
    assert "goes unnoticed" in result.finding


def test_a_gripper_that_was_never_calibrated_is_one_failure_that_says_to_calibrate_it(
    arm: EmulatedArm, config: AgentConfig
):
    measured = JointCalibration.read(config.state_folder)
    assert measured is not None
    msgspec.structs.replace(measured, gripper=None).write(config.state_folder)
    results = list(examine(config, skip=["network", "camera", "disk", "keys", "reach"]))
    (failure,) = [one for one in results if one.verdict == Verdict.FAIL]
    assert (failure.subject, failure.remedy) == ("pose", "run: robot-agent calibrate")


def test_the_gripper_is_opened_and_closed_when_it_may_move(arm: EmulatedArm):
    robot: SO101 = arm.open()
    (result,) = check_gripper(robot)
    robot.close()
    assert result.verdict == Verdict.OK, result


def test_a_silent_servo_is_a_failure_that_names_it(arm: EmulatedArm, config: AgentConfig):
    del arm.line.servos[3]
    results = list(examine(config, skip=["network", "camera", "disk", "keys"]))
    (failure,) = [one for one in results if one.verdict == Verdict.FAIL]
    assert failure.subject == "robot"
    assert "3" in failure.finding
    assert failure.remedy


def test_a_warm_servo_is_told_by_name(arm: EmulatedArm, config: AgentConfig):
    robot: SO101 = arm.open()
    arm.line.servos[2].temperature_c = 0.9 * config.safety.max_temperature_c
    arm.clock.sleep(0.1)
    (warning,) = [one for one in robot.checks() if one.verdict != Verdict.OK]
    robot.close()
    assert (warning.subject, warning.verdict) == ("servo shoulder_lift", Verdict.WARN)
