"""The limits of the table [safety]: conservative when nothing is said, and nothing absurd."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from protocol.configuration import from_table
from protocol.errors import ConfigurationError
from robot_agent.config import SafetyConfig


def load(text: str) -> SafetyConfig:
    return from_table(tomllib.loads(text), SafetyConfig, name="robot.toml", folder=Path())


def test_what_is_not_said_is_slow_and_weak():
    config = load("")
    assert config.max_speed_m_s <= 0.25
    assert config.hold_torque < config.max_torque < 1.0
    assert config.max_temperature_c <= 60.0


@pytest.mark.parametrize("field", [field.name for field in fields(SafetyConfig)])
@pytest.mark.parametrize("value", ["0.0", "-1.0", "inf", "nan", "1e6", '"fast"', "true"])
def test_no_limit_may_be_absurd(field: str, value: str):
    with pytest.raises(ConfigurationError, match=field):
        load(f"{field} = {value}")


def test_an_arm_is_not_held_harder_than_it_may_push():
    with pytest.raises(ConfigurationError, match=r"0\.6 is more than max_torque, 0\.5"):
        load("max_torque = 0.5\nhold_torque = 0.6")


def test_a_limit_that_does_not_exist_is_refused_with_the_nearest_that_does():
    with pytest.raises(ConfigurationError, match="did you mean 'max_speed_m_s'"):
        load("max_speed_ms = 0.1")
