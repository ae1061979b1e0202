"""A dry run: every decision is made and told, and nothing moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.security import load_release_secret
from tests.robot_agent.agent_process import ask
from tests.robot_agent.hill_release import hill_release
from tests.robot_agent.safety.recorder import Recorder
from tests.robot_agent.safety.wire_agent import agent_toml


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(tmp_path / "port") as recorder:
        yield recorder


def test_a_dry_run_says_what_it_would_do_and_moves_nothing(tmp_path: Path, line: Recorder):
    toml, state = agent_toml(tmp_path, max_attempts=1), tmp_path / "robot" / "state"
    key = load_release_secret(tmp_path / "keys" / "release.secret")
    (state / "release").write_bytes(hill_release(key=key))
    ended = ask("--config", toml, "--dry-run")
    assert ended.returncode == 0, ended.stderr
    for words in (
        "release 1 decides",
        "would leave the camera's view",
        "would move to x ",
        "wished x ",
        "within the limits x ",
        "predicted success 0.",
        "would close the gripper",
    ):
        assert words in ended.stdout
    assert line.lines == []
    assert not list(state.glob("outbox*"))
