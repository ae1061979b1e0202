"""The configuration files that people copy are right."""

from __future__ import annotations

from pathlib import Path

from learner.config import LearnerConfig
from protocol.configuration import load_toml
from robot_agent.config import AgentConfig

DEPLOY = Path(__file__).parent.parent / "deploy"


def test_the_example_of_a_learner_loads():
    config = load_toml(DEPLOY / "learner.example.toml", LearnerConfig)
    assert config.gateway.store == DEPLOY / "run/episodes"


def test_the_example_of_a_robot_loads():
    config = load_toml(DEPLOY / "robot.example.toml", AgentConfig)
    assert config.secret_key == DEPLOY / "robot.secret"
