"""`fleet status` and Prometheus' alerts call the same things wrong, at the same limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import beside_others, health, learner_ailments, robot_ailments
from learner.monitoring import lately, yesterday
from robot_agent.arms.servo_checks import WARM_SHARE
from robot_agent.config import SafetyConfig

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def alert(name: str, severity: str = "") -> dict[str, Any]:
    (found,) = (
        rule
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if rule.get("alert") == name and severity in (rule["labels"]["severity"], "")
    )
    return found


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([smhd])", text).groups()
    return float(number) * _UNITS_S[unit]


def captured(name: str, pattern: str, severity: str = "") -> str:
    """Return what the pattern's group finds in the alert's expression, for the first time."""
    expression = alert(name, severity)["expr"]
    found = re.search(pattern, " ".join(expression.split()))
    assert found, f"{pattern!r} is not in {expression}"
    return found[1]


ABOVE = r"> (\d[\d.]*)$"


@pytest.mark.parametrize(
    ("name", "pattern", "severity", "limit"),
    [
        ("StoreFilling", ABOVE, "", learner_ailments.MOST_STORE_SHARE),
        ("DiskFilling", r"< ([\d.]+)$", "critical", learner_ailments.LEAST_DISK_SHARE),
        ("IngestionBehind", ABOVE, "", learner_ailments.MOST_QUEUE_SHARE),
        ("KeysRefused", ABOVE, "", learner_ailments.MOST_KEYS_REFUSED),
        ("FleetDisconnected", r"< ([\d.]+) \*", "", health.LEAST_CONNECTED_SHARE),
        ("FleetDisconnected", r">= (\d+)", "", health.FEWEST_CONNECTED),
        ("RobotSpoolFilling", ABOVE, "warning", robot_ailments.MOST_OUTBOX_SHARE),
        ("RobotSpoolFilling", ABOVE, "critical", robot_ailments.ALMOST_FULL_OUTBOX_SHARE),
        ("RobotSpoolWaiting", ABOVE, "", robot_ailments.MOST_WAITING_S),
        ("RobotCameraShifted", ABOVE, "", robot_ailments.MOST_SHIFT_PX),
        ("RobotGripperZeroDrifted", ABOVE, "", robot_ailments.MOST_ZERO_DRIFT_M),
        ("RobotHot", ABOVE, "", robot_ailments.MOST_TEMPERATURE_C),
        ("RobotBelowFleet", r"zscore\S* < -(\d+)", "", beside_others.STANDARD_ERRORS),
        ("RobotBelowFleet", r"ratio - ([\d.]+)", "", beside_others.LEAST_DIFFERENCE),
        ("RobotBelowFleet", r"robot:attempts\S* >= (\d+)", "", beside_others.FEWEST_OWN_ATTEMPTS),
        (
            "RobotBelowFleet",
            r"others:attempts\S* >= (\d+)",
            "",
            beside_others.FEWEST_OTHER_ATTEMPTS,
        ),
    ],
)
def test_a_limit_is_that_of_the_alert(name: str, pattern: str, severity: str, limit: float):
    assert float(captured(name, pattern, severity)) == limit


def test_a_robot_is_called_hot_before_it_stops_itself():
    assert WARM_SHARE * SafetyConfig().max_temperature_c == robot_ailments.MOST_TEMPERATURE_C


@pytest.mark.parametrize(
    ("name", "pattern", "limit_s"),
    [
        ("KeysRefused", r"\[(\w+)\]", lately.REFUSED_WITHIN_S),
        ("RobotSequencesMissing", r"offset (\w+)", yesterday.NEWS_S),
        ("RobotReleaseNotTaken", r"offset (\w+)", health.BEHIND_S),
    ],
)
def test_what_is_looked_back_at_is_as_long_as_in_the_alert(name: str, pattern: str, limit_s: float):
    assert seconds(captured(name, pattern)) == limit_s


@pytest.mark.parametrize(
    ("name", "limit_s"),
    [
        ("RobotSilent", health.SILENT_S),
        ("FleetDisconnected", health.FLEET_SILENT_S),
        ("IngestionBehind", lately.QUEUED_WITHIN_S),
    ],
)
def test_it_lasts_as_long_as_the_alert_waits(name: str, limit_s: float):
    assert seconds(alert(name)["for"]) == limit_s


def test_a_trainer_may_be_silent_and_stand_for_as_long_as_the_alerts_let_it():
    silent, stalled = alert("TrainerSilent"), alert("TrainingStalled")
    limit_s = float(captured("TrainerSilent", r"timestamp_seconds\) > (\d+)"))
    assert limit_s + seconds(silent["for"]) == learner_ailments.TRAINER_SILENT_S
    unheard_s = seconds(captured("TrainerSilent", r"offset (\w+)")) + seconds(silent["for"])
    assert unheard_s == learner_ailments.TRAINER_UNHEARD_S
    within_s = seconds(captured("TrainingStalled", r"\[(\w+)\]"))
    assert within_s + seconds(stalled["for"]) == learner_ailments.TRAINING_STALLED_S
