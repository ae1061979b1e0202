"""The fleet as the learner knows it, by a clock that the test turns."""

from __future__ import annotations

import sys

import msgspec
import pytest

from learner.monitoring.fleet_state import LIVE_S, FleetState
from learner.store.ledger import RobotLedger
from protocol.limits import MAX_STATUS_BYTES
from protocol.messages import STARTING, Drift, RobotHealth, RobotStatus, StopState
from tests.delivery_site import make_heartbeat

NOTHING = RobotLedger(
    stored=0,
    missing=0,
    tombstoned=0,
    retired=0,
    duplicates=0,
    conflicts=0,
    attempts=0,
    successes=0,
    recent="",
)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fleet(clock: Clock) -> FleetState:
    return FleetState(clock)


def beat(fleet: FleetState, robot: str, version: int = 0) -> None:
    fleet.beat(robot, make_heartbeat(release_version=version))


def test_a_release_has_arrived_when_the_last_live_robot_uses_it(fleet: FleetState, clock: Clock):
    beat(fleet, "a")
    beat(fleet, "b")
    fleet.release_published(1)
    clock.now_s += 0.5
    beat(fleet, "a", 1)
    assert fleet.release_latencies_ms() == []
    clock.now_s += 1.0
    beat(fleet, "b", 1)
    assert fleet.release_latencies_ms() == [pytest.approx(1500)]


def test_a_newer_release_in_use_supersedes_the_older(fleet: FleetState, clock: Clock):
    beat(fleet, "a")
    fleet.release_published(1)
    clock.now_s += 1.0
    fleet.release_published(2)
    clock.now_s += 1.0
    beat(fleet, "a", 2)
    assert fleet.release_latencies_ms() == [pytest.approx(2000), pytest.approx(1000)]


def test_a_robot_whose_agent_is_still_starting_is_not_waited_for(fleet: FleetState, clock: Clock):
    beat(fleet, "a")
    fleet.beat("b", msgspec.structs.replace(make_heartbeat(), mode=STARTING))
    fleet.release_published(1)
    clock.now_s += 0.5
    beat(fleet, "a", 1)
    assert fleet.release_latencies_ms() == [pytest.approx(500)]


def test_a_robot_that_fell_silent_is_not_waited_for(fleet: FleetState, clock: Clock):
    beat(fleet, "a")
    beat(fleet, "b")
    fleet.release_published(1)
    clock.now_s += 1.0
    beat(fleet, "a", 1)
    clock.now_s += LIVE_S
    beat(fleet, "a", 1)
    assert fleet.release_latencies_ms() == [pytest.approx(1000)]


def test_a_release_without_a_live_robot_has_no_latency(fleet: FleetState, clock: Clock):
    beat(fleet, "a")
    clock.now_s += LIVE_S + 1
    fleet.release_published(1)
    beat(fleet, "a", 1)
    assert fleet.release_latencies_ms() == []


def test_a_silent_robot_is_shown_as_disconnected(fleet: FleetState, clock: Clock):
    beat(fleet, "a", 4)
    assert fleet.status_of("a", NOTHING).connected
    clock.now_s += LIVE_S + 1
    status = fleet.status_of("a", NOTHING)
    assert not status.connected
    assert status.last_seen_s == pytest.approx(LIVE_S + 1)
    assert status.release_version == 4


def test_a_robot_never_heard_of_has_no_age(fleet: FleetState):
    assert fleet.status_of("ghost", NOTHING).last_seen_s == -1


def test_refusals_are_counted_by_reason_and_by_robot(fleet: FleetState):
    fleet.refuse("a", "digest")
    fleet.refuse("a", "record")
    fleet.refuse(None, "not-enrolled")
    assert fleet.refusals() == {"digest": 1, "record": 1, "not-enrolled": 1}
    assert fleet.status_of("a", NOTHING).refused == 2


def test_a_robot_that_is_pinned_to_another_release_is_not_waited_for(
    fleet: FleetState, clock: Clock
):
    beat(fleet, "a")
    beat(fleet, "pinned", 7)
    fleet.release_published(9, pinned={"pinned"})
    clock.now_s += 1.0
    beat(fleet, "pinned", 7)
    beat(fleet, "a", 9)
    assert fleet.release_latencies_ms() == [pytest.approx(1000)]

    fleet.release_published(10, pinned={""})
    beat(fleet, "a", 10)
    assert len(fleet.release_latencies_ms()) == 1


def test_what_an_operator_pins_between_two_releases_is_known(fleet: FleetState):
    beat(fleet, "a")
    beat(fleet, "b")

    def pinned() -> set[str]:
        return {name for name, robot in fleet.view().robots.items() if robot.is_pinned}

    fleet.release_published(9)
    assert pinned() == set()
    fleet.note_pins({"a"})
    assert pinned() == {"a"}
    fleet.note_pins({""})
    assert pinned() == {"a", "b"}
    fleet.note_pins(())
    assert pinned() == set()


def test_a_robot_that_never_takes_a_release_is_not_waited_for_without_end(
    fleet: FleetState, clock: Clock
):
    beat(fleet, "stubborn")
    for version in range(1, 50):
        fleet.release_published(version)
        clock.now_s += 0.01
    beat(fleet, "stubborn", 49)
    assert 0 < len(fleet.release_latencies_ms()) < 30


def test_releases_that_nobody_takes_do_not_make_every_heartbeat_look_at_every_robot(
    fleet: FleetState, clock: Clock
):
    names = [f"arm-{number}" for number in range(100)]
    for name in names:
        beat(fleet, name)
    for version in range(1, 20):
        fleet.release_published(version)
    beat(fleet, names[0])
    calls = []
    sys.setprofile(lambda frame, event, _: calls.append(frame) if event == "call" else None)
    try:
        for name in names:
            beat(fleet, name)
    finally:
        sys.setprofile(None)
    assert len(calls) < 100 * len(names)
    clock.now_s += LIVE_S + 1
    beat(fleet, names[0], 19)
    assert len(fleet.release_latencies_ms()) == 19


MOST = 2**53
LOUD = "\N{ROBOT FACE}" * 512


def most_health() -> RobotHealth:
    return RobotHealth(
        outbox_limit_bytes=MOST,
        outbox_oldest_s=1e8 / 3,
        release_created_at_ns=2**62,
        servo_hz=1e6 / 3,
        camera_ok=False,
        servos_ok=False,
        camera_faults=MOST,
        servo_faults=MOST,
        safety_stops=MOST,
        camera_shift_px=1 / 3,
        gripper_zero_drift_m=1 / 3,
        temperature_c=100 / 3,
        metrics_port=65_535,
    )


def loudest(fleet: FleetState, name: str) -> RobotStatus:
    """Return the status of a robot of which all is said that can be."""
    heartbeat = make_heartbeat(release_version=MOST)
    changes = {"warnings": [LOUD] * 16, "policy_digest": LOUD, "health": most_health()}
    counts = dict.fromkeys(("outbox_episodes", "outbox_bytes"), MOST)
    times = dict.fromkeys(("decision_ms_p50", "decision_ms_p99"), 1e8 / 3)
    fleet.greeted(name, wire_version=5, software_version=LOUD, address=":".join(["2001"] * 8))
    fleet.beat(name, msgspec.structs.replace(heartbeat, **changes, **counts, **times))
    fleet.refuse(name, "record", "the record is no record")
    ledger = {field: MOST for field in ("stored", "missing", "tombstoned", "duplicates")}
    ledger |= {field: MOST for field in ("conflicts", "attempts", "successes")}
    status = fleet.status_of(name, msgspec.structs.replace(NOTHING, recent="S" * 200, **ledger))
    drift = Drift(detected=True, evidence=1 / 3, attempts=MOST, before=1 / 3, now=1 / 3, since=MOST)
    return msgspec.structs.replace(
        status,
        gateway="tcp://" + "g" * 250,
        success_drift=drift,
        calibration_drift=drift,
        missing_yesterday=MOST,
        conflicts_yesterday=MOST,
        stop=StopState(
            robot_id=name,
            ordered_at_ns=2**62,
            by="o" * 64,
            confirmed_at_ns=2**62,
            trouble="a newer order has taken its place",
        ),
    )


def test_robots_that_say_as_much_as_they_can_do_not_make_a_status_too_large(fleet: FleetState):
    status = loudest(fleet, "r" * 64)
    for part in (status, status.health, status.success_drift, status.stop):
        left_out = [
            field.name
            for field in msgspec.structs.fields(part)
            if getattr(part, field.name) in (field.default, None)
        ]
        assert left_out == [], "all that can be said is said"
    assert 2_500 * len(msgspec.msgpack.encode(status)) < MAX_STATUS_BYTES
    assert status.warnings[0] == "the record is no record"
    assert set(status.warnings[1]) == {"\N{ROBOT FACE}"}
