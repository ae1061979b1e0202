import numpy as np
import pytest

from protocol.errors import RobotError, SafetyFault
from robot_agent.arms.servo_group import ServoFault, ServoReadings
from robot_agent.arms.servo_watch import PATIENCE, ServoWatch


def readings(
    *, temperature_c: float = 30.0, voltage_v: float = 7.4, fault: ServoFault | None = None
) -> ServoReadings:
    """What two motors measured, the second one with something wrong."""
    return ServoReadings(
        positions_rad=np.zeros(2),
        goals_rad=np.zeros(2),
        velocities_rad_s=np.zeros(2),
        loads=np.zeros(2),
        temperatures_c=np.array([30.0, temperature_c]),
        voltages_v=np.array([7.4, voltage_v]),
        read_at_ns=0,
        faults=(frozenset(), frozenset() if fault is None else frozenset({fault})),
    )


@pytest.fixture
def watch() -> ServoWatch:
    return ServoWatch(
        "robot-7", ["shoulder", "elbow"], max_temperature_c=60.0, voltage_v=(4.6, 8.4)
    )


def check(watch: ServoWatch, wrong: ServoReadings) -> None:
    for _ in range(PATIENCE):
        watch.check(wrong)


FATAL = {
    "elbow is at 60.5 degrees C, more than 60;": readings(temperature_c=60.5),
    "elbow reports: overheated": readings(fault=ServoFault.OVERHEATED),
    "elbow reports: angle sensor": readings(fault=ServoFault.SENSOR),
    "the supply gives 12.1 V, the motors bear 8.4": readings(voltage_v=12.1),
}
ABORTING = {
    "the supply fell to 4.2 V, the motors need 4.6": readings(voltage_v=4.2),
    "elbow reports: supply voltage": readings(fault=ServoFault.VOLTAGE),
    "elbow reports: overload": readings(fault=ServoFault.OVERLOAD),
    "elbow reports: overcurrent": readings(fault=ServoFault.OVERCURRENT),
}


@pytest.mark.parametrize("words", FATAL)
def test_what_only_a_person_can_mend_is_a_safety_fault(watch: ServoWatch, words: str):
    with pytest.raises(SafetyFault, match=f"robot-7.*{words}"):
        check(watch, FATAL[words])


@pytest.mark.parametrize("words", ABORTING)
def test_what_may_pass_aborts_the_attempt_only(watch: ServoWatch, words: str):
    with pytest.raises(RobotError, match=words) as caught:
        check(watch, ABORTING[words])
    assert not isinstance(caught.value, SafetyFault)


@pytest.mark.parametrize("words", [words for words in (*FATAL, *ABORTING) if "over" not in words])
def test_one_byte_that_noise_changed_stops_no_robot(watch: ServoWatch, words: str):
    for _ in range(3):
        for _ in range(PATIENCE - 1):
            watch.check({**FATAL, **ABORTING}[words])
        watch.check(readings())


def test_all_is_well_at_the_limits(watch: ServoWatch):
    check(watch, readings(temperature_c=60.0, voltage_v=4.6))
    check(watch, readings(voltage_v=8.4))


def test_an_overload_counts_at_once_because_the_next_goal_may_clear_it(watch: ServoWatch):
    with pytest.raises(RobotError, match="overload"):
        watch.check(readings(fault=ServoFault.OVERLOAD))


def test_a_grippers_motor_may_be_overloaded():
    watch = ServoWatch(
        "robot-7", ["a", "b"], max_temperature_c=60.0, voltage_v=(4.6, 8.4), may_overload=True
    )
    check(watch, readings(fault=ServoFault.OVERLOAD))
    with pytest.raises(SafetyFault, match="overheated"):
        check(watch, readings(fault=ServoFault.OVERHEATED))


def test_the_third_overload_in_succession_is_a_safety_fault(watch: ServoWatch):
    overload = readings(fault=ServoFault.OVERLOAD)
    for _ in range(2):
        with pytest.raises(RobotError) as caught:
            watch.check(overload)
        assert not isinstance(caught.value, SafetyFault)
    with pytest.raises(SafetyFault, match="3 times in succession"):
        watch.check(overload)


def test_a_motion_that_succeeds_forgives_the_overloads_before_it(watch: ServoWatch):
    overload = readings(fault=ServoFault.OVERLOAD)
    for _ in range(5):
        with pytest.raises(RobotError) as caught:
            watch.check(overload)
        assert not isinstance(caught.value, SafetyFault)
        watch.note_success()


def test_the_hottest_of_two_complaints_is_told(watch: ServoWatch):
    wrong = readings(temperature_c=75.0, voltage_v=4.0)
    with pytest.raises(SafetyFault, match="75 degrees"):
        check(watch, wrong)
