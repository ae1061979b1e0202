"""The G-code arm against an emulated controller, in three firmwares."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, PortGoneError, RobotError, SafetyFault
from robot_agent.config import SafetyConfig
from robot_agent.kinematics.arm_model import Mount
from robot_agent.robots.base import GuardedRobot, ReachLimitedRobot, RobotSite, SelfCheckingRobot
from robot_agent.robots.gcode_arm import GcodeArm
from robot_agent.robots.gcode_dialect import DIALECTS, position_m
from robot_agent.robots.gcode_options import GcodeOptions
from robot_agent.robots.gcode_reach import GcodeReach
from robot_agent.serial_bus.line_format import Answer, LineKind
from tests.emulators.gcode_controller import EmulatedGcodeController
from tests.emulators.hurried_clock import HurriedClock
from tests.emulators.pty_port import PtyPort
from tests.emulators.robotiq import EmulatedRobotiq

ABOVE_BIN = GripperPose(x_m=0.04, y_m=-0.03, z_m=0.12, yaw_rad=0.6)
UARMS = ("uarm-4", "uarm-3")
LEAST_S = 10.0


def until(happened: Callable[[], bool]) -> None:
    end_s = time.monotonic() + LEAST_S
    while not happened():
        assert time.monotonic() < end_s, "it never happened"
        time.sleep(0.001)


def site(folder: Path, **safety: float) -> RobotSite:
    limits = SafetyConfig(**{"max_joint_speed_rad_s": 100.0} | safety)
    return RobotSite(name="arm-1", state_folder=folder, safety=limits)


class Bench:
    """A controller on a cable, and what is opened on it."""

    def __init__(self, folder: Path, firmware: str = "uarm-4") -> None:
        self.controller = EmulatedGcodeController(firmware=firmware)
        self.line = PtyPort(self.controller, folder / "arm")
        self.folder = folder
        self.options: dict[str, object] = {
            "port": str(self.line.path), "firmware": firmware, "tool_travel_s": 0.05,
        }  # fmt: skip

    def open(self, *, safety: dict[str, float] | None = None, **options: object) -> GcodeArm:
        return GcodeArm.open(
            self.options | options, site(self.folder, **safety or {}), HurriedClock()
        )

    @contextmanager
    def opened(self, **options: object) -> Iterator[GcodeArm]:
        arm = self.open(**options)
        try:
            yield arm
        finally:
            arm.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    with bench.line:
        yield bench


@pytest.fixture(params=UARMS)
def each_uarm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, request.param)
    with bench.line:
        yield bench


def test_it_is_all_that_an_arm_can_be(bench: Bench):
    with bench.opened() as arm:
        assert isinstance(arm, ReachLimitedRobot)
        assert isinstance(arm, SelfCheckingRobot)
    assert isinstance(GcodeArm, GuardedRobot)


def test_opening_the_port_moves_nothing(each_uarm: Bench):
    arm = each_uarm.open()
    arm.state()
    arm.close()
    assert not each_uarm.controller.are_motors_on
    assert each_uarm.controller.tips_mm == []


def test_the_first_motion_rises_straight_and_parks_slowly(bench: Bench):
    with bench.opened(safety={"max_speed_m_s": 0.2}) as arm:
        arm.move_to(ABOVE_BIN)
    risen, parked, moved, *_ = bench.controller.tips_mm
    assert risen == pytest.approx((150.0, 60.0, 120.0))
    assert parked == pytest.approx((60.0, 200.0, 140.0))
    assert moved == pytest.approx((240.0, -30.0, 120.0))
    assert bench.controller.feeds_mm_min[:3] == [3000.0, 3000.0, 12_000.0]
    assert bench.controller.acceleration == "M204 A1000"


def test_the_hand_ends_where_it_was_sent(each_uarm: Bench):
    with each_uarm.opened() as arm:
        ended = arm.move_to(ABOVE_BIN).pose
        assert ended.as_array()[:3] == pytest.approx(ABOVE_BIN.as_array()[:3], abs=1e-5)
        assert ended.yaw_rad == pytest.approx(ABOVE_BIN.yaw_rad, abs=0.002)


def test_the_wrist_makes_up_for_the_turn_of_the_arm(bench: Bench):
    with bench.opened() as arm:
        straight = GripperPose(x_m=0.0, y_m=0.0, z_m=0.1, yaw_rad=0.0)
        arm.move_to(straight)
        assert bench.controller.wrist_deg == pytest.approx(90.0)
        arm.move_to(GripperPose(x_m=0.0, y_m=0.1, z_m=0.1, yaw_rad=0.0))
        turned_deg = math.degrees(math.atan2(0.1, 0.2))
        assert bench.controller.wrist_deg == pytest.approx(90 - turned_deg, abs=0.1)


def test_a_mount_turns_and_shifts_the_frame(bench: Bench):
    mount = {"x_m": 0.1, "y_m": 0.2, "z_m": -0.03, "yaw_rad": -math.pi / 2}
    parking = {"x_m": -0.1, "y_m": 0.2, "z_m": 0.1}
    with bench.opened(mount=mount, parking=parking) as arm:
        arm.move_to(GripperPose(x_m=0.05, y_m=0.0, z_m=0.06, yaw_rad=0.0))
    assert bench.controller.tips_mm[2] == pytest.approx((200.0, -50.0, 90.0))


def test_a_half_turn_further_is_told_in_the_same_words(bench: Bench):
    with bench.opened() as arm:
        wanted = GripperPose(x_m=0.04, y_m=-0.03, z_m=0.12, yaw_rad=2.9)
        assert arm.move_to(wanted).pose.yaw_rad == pytest.approx(2.9, abs=0.002)
        assert 0 <= bench.controller.wrist_deg <= 180


def test_no_wrist_turns_faster_than_a_joint_may(bench: Bench):
    with bench.opened(safety={"max_joint_speed_rad_s": 4.0}) as arm:
        arm.move_to(GripperPose(x_m=0.0, y_m=0.0, z_m=0.1, yaw_rad=0.0))
        before = len(bench.controller.commands)
        arm.move_to(GripperPose(x_m=0.0, y_m=0.0, z_m=0.1, yaw_rad=1.0))
    told = [
        float(command.split()[2][1:])
        for command in bench.controller.commands[before:]
        if command.startswith("G2202")
    ]
    steps = [after - earlier for earlier, after in zip([90.0, *told], told, strict=False)]
    assert told[-1] == pytest.approx(math.degrees(1.0) + 90, abs=0.1)
    assert max(steps) <= math.degrees(4.0) * 0.05 + 0.1


def test_what_cannot_be_reached_is_clamped_to_the_annulus_and_the_heights(bench: Bench):
    with bench.opened() as arm:
        far = GripperPose(x_m=0.5, y_m=0.0, z_m=0.9, yaw_rad=0.3)
        nearest = arm.nearest_reachable(far)
        assert (nearest.x_m, nearest.z_m) == pytest.approx((0.11, 0.15))
        assert nearest.yaw_rad == pytest.approx(0.3)
        assert arm.nearest_reachable(ABOVE_BIN) == ABOVE_BIN
        assert arm.move_to(far).pose.x_m == pytest.approx(0.11, abs=1e-4)


poses = st.builds(
    GripperPose,
    x_m=st.floats(-1, 1), y_m=st.floats(-1, 1), z_m=st.floats(-1, 1), yaw_rad=st.floats(-7, 7),
)  # fmt: skip
mounts = st.builds(
    Mount, x_m=st.floats(-0.5, 0.5), y_m=st.floats(-0.5, 0.5), yaw_rad=st.floats(-3, 3)
)


@given(poses, mounts, st.sampled_from([-1, 1]), st.booleans())
def test_every_pose_has_a_reachable_one_near_it_and_that_is_its_own(
    pose: GripperPose, mount: Mount, wrist_direction: int, is_wrist_carried: bool
):
    reach = GcodeReach(
        GcodeOptions(
            port="/dev/x",
            mount=mount,
            wrist_direction=wrist_direction,  # type: ignore[arg-type]
            is_wrist_carried=is_wrist_carried,
        )
    )
    told = reach.to_controller(pose)
    assert 0.11 - 1e-9 <= math.hypot(told.x_m, told.y_m) <= 0.31 + 1e-9
    assert -0.05 <= told.z_m <= 0.15
    assert -1e-6 <= told.wrist_deg <= 180 + 1e-6
    nearest = reach.nearest(pose)
    # The same way of closing, whatever the place.
    assert abs(math.remainder(nearest.yaw_rad - pose.yaw_rad, math.pi)) < 1e-6
    again = reach.nearest(nearest)
    assert again.as_array() == pytest.approx(nearest.as_array(), abs=1e-6)


def test_the_tool_says_open_closed_or_holding(each_uarm: Bench):
    with each_uarm.opened() as arm:
        assert arm.open_gripper() == 0.040
        assert arm.close_gripper() == 0.0
        each_uarm.controller.holds_something = True
        assert arm.state().opening_m == 0.010
        assert arm.retreat().opening_m == 0.010


def test_a_pump_is_switched_by_its_own_words(bench: Bench):
    with bench.opened(tool="pump") as arm:
        arm.close_gripper()
    assert "M2231 V1" in bench.controller.commands
    assert "M2232 V1" not in bench.controller.commands


def test_a_gripper_of_its_own_port_takes_the_tools_place(bench: Bench, tmp_path: Path):
    with PtyPort(EmulatedRobotiq(), tmp_path / "gripper") as gripper:
        driver = "robot_agent.robots.robotiq_2f85:Robotiq2F85"
        with bench.opened(gripper={"driver": driver, "port": str(gripper.path)}) as arm:
            assert arm.gripper.max_opening_m == 0.085
            assert arm.open_gripper() == pytest.approx(0.085)
            assert arm.close_gripper() == pytest.approx(0.0)


def test_marlin_homes_and_is_asked_in_its_own_words(tmp_path: Path):
    bench = Bench(tmp_path, "marlin")
    driver = "robot_agent.robots.robotiq_2f85:Robotiq2F85"
    with bench.line, PtyPort(EmulatedRobotiq(), tmp_path / "gripper") as gripper:
        options = {"gripper": {"driver": driver, "port": str(gripper.path)}}
        with bench.opened(**options) as arm:
            ended = arm.move_to(ABOVE_BIN).pose
            assert ended.as_array()[:3] == pytest.approx(ABOVE_BIN.as_array()[:3], abs=1e-5)
            arm.stop()
            arm.move_to(ABOVE_BIN)
        assert bench.controller.stops == 1
        homings = [at for at, said in enumerate(bench.controller.commands) if said == "G28"]
        assert len(homings) == 1


@pytest.mark.parametrize("emergency_parser", [False, None])
def test_a_marlin_that_would_read_a_stop_only_after_the_motion_is_refused(
    emergency_parser: bool | None, tmp_path: Path
):
    bench = Bench(tmp_path, "marlin")
    bench.controller.emergency_parser = emergency_parser
    gripper = {"driver": "robot_agent.robots.robotiq_2f85:Robotiq2F85", "port": "/dev/none"}
    with (
        bench.line,
        pytest.raises(ConfigurationError, match="stops only after a motion has ended"),
    ):
        bench.open(gripper=gripper)


def test_marlin_without_a_gripper_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="name a gripper"):
        GcodeArm.open({"port": "/dev/x", "firmware": "marlin"}, site(tmp_path))


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
        until(lambda: controller.is_moving)
        arm.stop()
        motion.join(LEAST_S)
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
    until(lambda: controller.is_moving)
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
    with bench.opened(tool_travel_s=1000.0) as arm:
        threading.Timer(0.3, arm.stop).start()
        with pytest.raises(RobotError, match="stopped"):
            arm.close_gripper()


def test_a_pose_that_is_no_number_never_reaches_the_controller(bench: Bench):
    with bench.opened() as arm, pytest.raises(RobotError, match=r"arm-1: .*not finite"):
        arm.move_to(GripperPose(x_m=math.nan, y_m=0.0, z_m=0.1, yaw_rad=0.0))
    assert bench.controller.feeds_mm_min == []


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
        until(lambda: not bench.controller._said)
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
        until(lambda: not bench.controller._said)
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


def test_two_agents_on_one_arm_are_refused(bench: Bench):
    with bench.opened(), pytest.raises(ConfigurationError, match=r"arm-1: .*another agent"):
        bench.open()


def test_another_firmware_than_configured_is_refused(tmp_path: Path):
    bench = Bench(tmp_path, "uarm-3")
    with bench.line, pytest.raises(ConfigurationError, match="set it to 'uarm-3'"):
        bench.open(firmware="uarm-4")


def test_the_doctor_is_told_firmware_and_supply(bench: Bench):
    with bench.opened() as arm:
        assert [(found.subject, found.verdict) for found in arm.checks()] == [
            ("controller", "ok"), ("motor supply", "ok"),
        ]  # fmt: skip
        bench.controller.has_power = False
        assert [found.verdict for found in arm.checks()] == ["ok", "fail"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prot": "x"}, "did you mean 'port'"),
        ({"port": "/dev/x", "firmware": "uarm-2"}, "firmware"),
        ({"port": "/dev/x", "reach_m": [0.3, 0.1]}, "reach_m: 0.3 is not below 0.1"),
        ({"port": "/dev/x", "mount": {"x": 1}}, "did you mean 'x_m'"),
        ({}, "port"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=words):
        GcodeArm.open(options, site(tmp_path))


@given(st.floats(-999, 999), st.floats(-999, 999), st.floats(-999, 999))
def test_positions_of_both_styles_are_read(x: float, y: float, z: float):
    uarm = Answer(kind=LineKind.OK, text=f"X{x:.4f} Y{y:.4f} Z{z:.4f}")
    report = f"X:{x:.4f} Y:{y:.4f} Z:{z:.4f} E:0.00 Count X:0 Y:0 Z:0"
    marlin = Answer(kind=LineKind.OK, text="", notes=("echo:busy", report))
    expected = pytest.approx((x / 1000, y / 1000, z / 1000), abs=1e-6)
    assert position_m(uarm) == expected
    assert position_m(marlin) == expected


@given(st.text(max_size=60))
def test_any_answer_has_a_position_or_none(text: str):
    position = position_m(Answer(kind=LineKind.OK, text=text))
    assert position is None or all(math.isfinite(value) for value in position)


def test_every_dialect_writes_lines_that_fit_a_controllers_buffer():
    for dialect in DIALECTS.values():
        assert len(dialect.move((-319.99, -319.99, -149.99), 59_999.0)) < 60
