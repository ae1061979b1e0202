"""What somebody should look at, and how it is shown."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from fleet.concern import LEARNER, Concern, Severity
from fleet.health import concerns_of
from fleet.overview import Overview
from fleet.top import headline, screen_of, sparkline
from protocol.messages import (
    Drift,
    LearnerCondition,
    ReleaseEntry,
    ReleaseList,
    RobotHealth,
    RobotStatus,
    StatusReply,
    StopState,
)

NOW_NS = 1_800_000_000_000_000_000
MINUTE_NS = 60 * 10**9


def robot(name: str = "arm-1", **known: object) -> RobotStatus:
    usual = {
        "last_seen_s": 0.5,
        "connected": True,
        "release_version": 8,
        "attempts": 100,
        "successes": 90,
        "recent": "S" * 90 + "F" * 10,
        **dict.fromkeys(("missing", "tombstoned", "duplicates", "conflicts", "refused"), 0),
        "stored": 100,
        "outbox_episodes": 0,
        "decision_ms_p50": 9.0,
        "decision_ms_p99": 12.0,
        "warnings": [],
    }
    return RobotStatus(robot_id=name, **(usual | known))


def drift(*, detected: bool) -> Drift:
    return Drift(detected=detected, evidence=1.5, attempts=900, before=0.9, now=0.71, since=84)


def entry(version: int, minutes_old: float) -> ReleaseEntry:
    return ReleaseEntry(
        version=version,
        digest="",
        size_bytes=1,
        created_at_ns=NOW_NS - round(minutes_old * MINUTE_NS),
        trained_steps=1,
        metrics={},
    )


def condition(**known: object) -> LearnerCondition:
    usual = {
        "store_bytes": 10,
        "store_limit_bytes": 100,
        "disk_free_bytes": 90,
        "disk_size_bytes": 100,
        "queued_bytes": 0,
        "queue_limit_bytes": 100,
        "keys_refused": 0,
        "trainer_silent_s": 0.5,
        "training_stalled_s": 1.0,
        "training_steps": 900,
    }
    return LearnerCondition(**(usual | known))


LISTING = ReleaseList(
    current=8, releases=[entry(8, 2), entry(7, 20), entry(6, 40)], pinned={}, withheld=[]
)


def overview(
    *robots: RobotStatus,
    listing: ReleaseList | None = LISTING,
    members: frozenset[str] | None = None,
    uptime_s: float = 3600.0,
    warnings: tuple[str, ...] = (),
    conditions: tuple[LearnerCondition, ...] = (),
) -> Overview:
    status = StatusReply(
        uptime_s=uptime_s,
        release_version=8,
        releases_published=8,
        release_latency_ms=[],
        episodes_stored=sum(one.stored for one in robots),
        robots=list(robots),
        warnings=list(warnings),
        conditions=list(conditions),
    )
    names = frozenset(one.robot_id for one in robots)
    return Overview(status=status, listing=listing, members=names if members is None else members)


def stop(**known: int) -> StopState:
    return StopState(robot_id="arm-1", ordered_at_ns=1_700_000_000_000_000_000, by="ann", **known)


def said(seen: Overview) -> list[str]:
    return [f"{concern.severity} {concern}" for concern in concerns_of(seen, NOW_NS)]


def test_a_fleet_that_is_well_gives_no_concern():
    calm = {"success_drift": drift(detected=False), "calibration_drift": drift(detected=False)}
    seen = overview(
        robot("arm-1", **calm),
        robot("arm-2", recent="S" * 80 + "F" * 20),
        conditions=(condition(), condition(trainer_silent_s=None, training_stalled_s=None)),
    )
    assert said(seen) == []


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"connected": False, "last_seen_s": 240.0}, "warning arm-1: silent for 4 min; is it "),
        ({"connected": False, "last_seen_s": -1.0}, "warning arm-1: not heard since the learner"),
        ({"conflicts": 2}, "critical arm-1: 2 episodes came under the sequence of others; 'fleet"),
        ({"missing": 1}, "warning arm-1: 1 episode missing of the numbers that it gave; 'fleet"),
        (
            {
                "outbox_bytes": 60,
                "outbox_episodes": 9,
                "health": RobotHealth(outbox_limit_bytes=100),
            },
            "warning arm-1: its outbox is 60% full, with 9 episodes; its network",
        ),
        (
            {"outbox_bytes": 95, "health": RobotHealth(outbox_limit_bytes=100)},
            "critical arm-1: its outbox is 95% full",
        ),
        ({"warnings": ["the camera is gone"]}, "warning arm-1: the camera is gone"),
        ({"health": RobotHealth(camera_ok=False)}, "warning arm-1: the camera gives no picture"),
        ({"health": RobotHealth(servos_ok=False)}, "warning arm-1: arm or gripper does not ans"),
        (
            {"health": RobotHealth(safety_stops=1)},
            "critical arm-1: it has stopped for safety; it stands until a person has looked at it "
            "and runs 'robot-agent resume' there",
        ),
        (
            {"health": RobotHealth(safety_stops=1), "stop": stop(confirmed_at_ns=NOW_NS)},
            "critical arm-1: it was stopped by ann at 2023-11-14 22:13:20 UTC, and holds still; it "
            "stands until a person has looked at it and runs 'robot-agent resume' there",
        ),
        (
            {"stop": stop(), "connected": False},
            "critical arm-1: it was stopped by ann at 2023-11-14 22:13:20 UTC, but has not said",
        ),
        ({"health": RobotHealth(camera_shift_px=3.0)}, "warning arm-1: the camera has moved by 3"),
        ({"health": RobotHealth(gripper_zero_drift_m=0.003)}, "warning arm-1: closed on nothing"),
        ({"health": RobotHealth(temperature_c=71.0)}, "warning arm-1: 71 °C; look for what blo"),
        ({"health": RobotHealth(outbox_oldest_s=3600.0)}, "warning arm-1: an episode has waited"),
        (
            {"success_drift": drift(detected=True)},
            "warning arm-1: success has left its past: 71% instead of 90% for about 84 attempts;",
        ),
        (
            {"calibration_drift": drift(detected=True)},
            "warning arm-1: predictions have left what it achieves: where it predicts 80%, about",
        ),
        ({"release_version": 6}, "warning arm-1: still uses release 6 instead of 8, 20 min after"),
        ({"recent": "S" * 30 + "F" * 70}, "warning arm-1: greedy success 30% [22%, 40%], the oth"),
    ],
)
def test_what_is_wrong_with_a_robot_is_said_with_what_to_do(
    known: dict[str, object], expected: str
):
    (found,) = said(overview(robot("arm-1", **known), robot("arm-2")))
    assert found.startswith(expected)


def test_a_robot_may_finish_its_attempt_before_it_takes_a_release():
    assert said(overview(robot(release_version=7), robot("arm-2"))) == []


def test_a_robot_that_was_shut_out_or_never_came_is_no_concern():
    away = robot("arm-1", connected=False, last_seen_s=4000.0)
    expected = robot("arm-3", connected=False, last_seen_s=-1.0, attempts=0, recent="")
    assert (
        said(overview(away, robot("arm-2"), expected, members=frozenset({"arm-2", "arm-3"}))) == []
    )


def test_a_learner_that_has_just_begun_is_given_time_to_hear_its_robots():
    silent = robot("arm-1", connected=False, last_seen_s=-1.0)
    assert said(overview(silent, robot("arm-2"), uptime_s=20.0)) == []


def test_the_most_urgent_comes_first():
    found = concerns_of(
        overview(
            robot("arm-1", connected=False, last_seen_s=400.0),
            listing=None,
            warnings=("the disk is nearly full",),
        ),
        NOW_NS,
    )
    assert [concern.severity for concern in found] == [
        *[Severity.CRITICAL] * 2,
        *[Severity.WARNING] * 2,
    ]
    assert {concern.about for concern in found} == {LEARNER, "arm-1"}


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"store_bytes": 96}, "critical learner: the episode store has reached 96% of the"),
        ({"disk_free_bytes": 4}, "critical learner: 4.0% of the store's disk are free"),
        ({"queued_bytes": 90}, "warning learner: for five minutes at least 90% of the queue to"),
        ({"keys_refused": 3}, "warning learner: keys that are not accepted were refused 3 times"),
        ({"trainer_silent_s": 600.0}, "warning learner: the trainer has said nothing for 10 min;"),
        ({"trainer_silent_s": None}, "warning learner: the trainer has said nothing since the ga"),
        ({"training_stalled_s": 900.0}, "warning learner: training has stood at 900 steps for 15"),
        ({"gateway": "tcp://b:1", "store_bytes": 96}, "critical learner: gateway tcp://b:1: the e"),
    ],
)
def test_what_is_wrong_with_the_learner_is_said(known: dict[str, object], expected: str):
    (found,) = said(overview(robot(), conditions=(condition(**known),)))
    assert found.startswith(expected)


def test_training_is_what_the_gateway_says_that_hears_it():
    deaf = condition(gateway="tcp://b:1", trainer_silent_s=None, training_stalled_s=None)
    assert said(overview(robot(), conditions=(condition(gateway="tcp://a:1"), deaf))) == []


def test_fewer_than_half_connected_is_the_network_and_not_each_robot():
    here = [robot(f"here-{n}") for n in range(2)]
    away = [robot(f"away-{n}", connected=False, last_seen_s=150.0) for n in range(3)]
    long_gone = robot("gone", connected=False, last_seen_s=90_000.0)
    found = said(overview(*here, *away, long_gone))
    assert found[0].startswith("critical learner: 2 of 5 robots of the last day are connected;")
    assert not said(overview(*here, *away[:2]))


def test_what_was_lost_is_news_for_a_day_and_then_a_note_that_does_not_count():
    old = {"missing": 2, "missing_yesterday": 2, "conflicts": 1, "conflicts_yesterday": 1}
    seen = overview(robot(**old))
    concerns = concerns_of(seen, NOW_NS)
    assert [concern.is_note for concern in concerns] == [True, True]
    assert headline(seen, concerns).plain.startswith("well ")
    lines = shown(seen, rows=24, columns=120)
    assert any(line.startswith("note     arm-1: 2 episodes missing") for line in lines)
    assert any(line.split()[:2] == ["arm-1", "well"] for line in lines)
    fresh, *_ = said(overview(robot(**(old | {"missing": 3}))))
    assert fresh.startswith("warning arm-1: 3 episodes missing of the numbers that it gave, 2 of")


def attempts_of(rng: np.random.Generator, rate: float) -> str:
    return "".join("S" if success else "F" for success in rng.random(100) < rate)


def below(seen: Overview) -> list[Concern]:
    return [found for found in concerns_of(seen, NOW_NS) if "greedy success" in found.says]


@pytest.mark.parametrize("rate", [0.6, 0.8, 0.9])
def test_of_fifty_equal_robots_none_is_accused(rate: float):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        fleet = [robot(f"arm-{n:02}", recent=attempts_of(rng, rate)) for n in range(50)]
        assert below(overview(*fleet)) == []


def test_the_one_that_grasps_far_worse_than_the_others_is_named_and_no_other():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        fleet = [robot(f"arm-{n:02}", recent=attempts_of(rng, 0.88)) for n in range(49)]
        seen = overview(*fleet, robot("bad", recent="SFSFS" * 20))
        assert [found.about for found in below(seen)] == ["bad"]


def test_a_sparkline_has_a_block_for_twenty_finished_attempts_oldest_first():
    assert sparkline("f" * 20 + "a" * 50 + "sf" * 10 + "S" * 20) == "▁▅█"
    assert sparkline("S" * 5 + "f" * 20) == "█▁"
    assert sparkline("aaa") == ""


def shown(seen: Overview, *, rows: int, columns: int) -> list[str]:
    told = io.StringIO()
    console = Console(file=told, width=columns, height=rows, force_terminal=True, color_system=None)
    console.print(screen_of(seen, concerns_of(seen, NOW_NS), console))
    return told.getvalue().splitlines()


def test_the_screen_fits_the_terminal_and_shows_the_worst_robots_of_a_thousand():
    ill = [robot(f"ill-{n:03}", warnings=["the camera is gone"]) for n in range(40)]
    seen = overview(*(robot(f"arm-{n:04}") for n in range(1000)), *ill)
    lines = shown(seen, rows=24, columns=80)
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("40 warning")
    assert any(line.startswith("ill-000") and "warning" in line for line in lines)
    assert not any(line.startswith("arm-") for line in lines)
    assert "robots more" in lines[-1]


def test_the_headline_says_how_the_fleet_is():
    seen = overview(robot("arm-1"), robot("arm-2", connected=False, last_seen_s=7.0))
    line = headline(seen, []).plain
    assert line.startswith("well ")
    assert "1 of 2 robots connected · greedy success 90% [85%, 93%] · release 8" in line
