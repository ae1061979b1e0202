"""What ends a G-code arm's motion: stops, faults, a lost cable, a dead agent."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from protocol.episode import GripperPose
from protocol.errors import PortGoneError, RobotError, SafetyFault
from robot_agent.robots.gcode_arm import GcodeArm
from tests.emulators.hurried_clock import HurriedClock
from tests.robot_agent.robots.gcode_bench import ABOVE_BIN, Bench, site
from tests.waiting import PATIENCE_S, wait_until


def test_a_stop_of_another_thread_ends_a_motion_in_its_middle(each_uarm: Bench):
    controller = each_uarm.controller
    with each_uarm.opened() as arm:
        arm.retreat()
        controller.hurry = 1.0
        failures: list[RobotError] = []

        def move() -> None:
            try:
                arm.move_to(ABOVE_BIN)
            except RobotError as error:
                failures.append(error)

        motion = threading.Thread(target=move)
        motion.start()
        wait_until(lambda: controller.is_moving, "the arm moves")
        arm.stop()
        motion.join(PATIENCE_S)
        stopped_at = list(controller.tip_mm)
        assert "stopped" in str(failures[0])
        assert controller.are_motors_on
        assert not controller.is_moving
        controller.hurry = 50.0
        assert controller.tip_mm == stopped_at
        assert arm.move_to(ABOVE_BIN).pose.x_m == pytest.approx(0.04, abs=1e-5)


AGENT = """
import sys
from dataclasses import replace
from pathlib import Path
from protocol.episode import GripperPose
from robot_agent.config import SafetyConfig
from robot_agent.robots.base import RobotSite
from robot_agent.robots.gcode_arm import GcodeArm
port, firmware = sys.argv[1:]
site = RobotSite(name="arm-1", state_folder=Path(port).parent, safety=SafetyConfig())
GcodeArm.open({"port": port, "firmware": firmware}, site).retreat()
"""


def test_an_arm_whose_agent_is_killed_in_a_motion_is_held_by_another_process(each_uarm: Bench):
    controller = each_uarm.controller
    controller.hurry = 1.0
    port, firmware = str(each_uarm.line.path), controller.firmware
    agent = subprocess.Popen([sys.executable, "-c", AGENT, port, firmware])
    wait_until(lambda: controller.is_moving, "the arm moves")
    agent.kill()
    agent.wait()
    assert controller.is_moving
    GcodeArm.hold(each_uarm.options, site(each_uarm.folder))
    assert not controller.is_moving
    assert controller.are_motors_on


def test_ctrl_c_in_a_motion_ends_in_an_arm_that_only_holds(bench: Bench):
    interrupts: list[type[BaseException]] = []

    def beat() -> None:
        if interrupts:
            raise interrupts.pop()

    arm = GcodeArm.open(bench.options, replace(site(bench.folder), beat=beat), HurriedClock())
    arm.move_to(ABOVE_BIN)
    interrupts.append(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        arm.retreat()
    before = list(bench.controller.tips_mm)
    arm.close()
    assert bench.controller.tips_mm == before
    assert bench.controller.are_motors_on


def test_a_stop_ends_the_wait_for_a_tool(bench: Bench):
    with bench.opened(tool_travel_s=60.0) as arm:
        threading.Timer(0.3, arm.stop).start()
        with pytest.raises(RobotError, match="stopped"):
            arm.close_gripper()


def test_a_blocked_hand_is_measured_where_it_is(bench: Bench):
    with bench.opened() as arm:
        bench.controller.blocked_below_mm = 60.0
        ended = arm.move_to(GripperPose(x_m=0.0, y_m=0.0, z_m=0.02, yaw_rad=0.0))
        assert ended.pose.z_m == pytest.approx(0.060, abs=1e-4)


def test_a_parking_place_that_is_not_reached_is_an_error(bench: Bench):
    with bench.opened() as arm:
        arm.move_to(ABOVE_BIN)
        bench.controller.blocked_below_mm = 160.0
        with pytest.raises(RobotError, match=r"arm-1: 20 mm from its parking place"):
            arm.retreat()


def test_a_refused_position_is_told_in_words(bench: Bench):
    bench.controller.reach_mm = (50.0, 220.0)
    with bench.opened() as arm, pytest.raises(RobotError, match=r"E22 \(it cannot reach"):
        arm.move_to(ABOVE_BIN)


def test_motors_without_supply_are_told_before_anything_moves(bench: Bench):
    bench.controller.has_power = False
    with bench.opened() as arm, pytest.raises(RobotError, match="plug in the power brick"):
        arm.move_to(ABOVE_BIN)
    assert not bench.controller.are_motors_on


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ALARM:1", "says ALARM 1"),
        ("@5 V0", "lost their supply"),
        ("@7 temp_error", "too hot"),
    ],
)
def test_what_needs_a_person_is_a_safety_fault_and_nothing_moves_after_it(
    bench: Bench, line: str, words: str
):
    with bench.opened() as arm:
        arm.retreat()
        bench.controller.say(line)
        wait_until(lambda: not bench.controller._said, "it is said")
        with pytest.raises(SafetyFault, match=f"arm-1: the controller .*{words}"):
            arm.move_to(ABOVE_BIN)
        moves = len(bench.controller.feeds_mm_min)
        with pytest.raises(SafetyFault, match="start the agent again"):
            arm.open_gripper()
    assert len(bench.controller.feeds_mm_min) == moves


def test_a_controller_that_restarted_aborts_the_attempt_only(bench: Bench):
    with bench.opened() as arm:
        arm.retreat()
        bench.controller.say("@1")
        wait_until(lambda: not bench.controller._said, "it is said")
        with pytest.raises(RobotError, match="restarted"):
            arm.move_to(ABOVE_BIN)
        assert arm.move_to(ABOVE_BIN).pose.x_m == pytest.approx(0.04, abs=1e-5)


def test_a_cable_pulled_in_a_motion_aborts_it_and_the_next_one_works(bench: Bench):
    with bench.opened() as arm:
        arm.retreat()
        bench.controller.hurry = 1.0
        threading.Timer(0.1, bench.line.unplug).start()
        with pytest.raises(PortGoneError, match="arm-1"):
            arm.move_to(ABOVE_BIN)
        bench.line.plug()
        bench.controller.hurry = 50.0
        assert arm.move_to(ABOVE_BIN).pose.x_m == pytest.approx(0.04, abs=1e-5)


def test_answers_that_are_lost_or_damaged_cost_tries_only(bench: Bench):
    with bench.opened() as arm:
        arm.retreat()
        bench.line.faults.silent = 1
        assert arm.state().opening_m == 0.040
        bench.line.faults.noisy = 2
        assert arm.state().opening_m == 0.040
