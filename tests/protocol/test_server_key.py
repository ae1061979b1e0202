"""The learner's key while it is being changed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fleet.enrolment import SERVER_SECRET
from fleet.key_rotation import KeyRotation
from protocol.limits import LOGGED_REFUSALS
from protocol.refusal_log import RefusalLog
from protocol.registry import Registry
from protocol.server_key import (
    MARKED_AGAIN_AFTER_S,
    ServerKey,
    confirmed,
    confirmed_folder,
    mark_confirmed,
)
from tests.learner_keys import create_learner_keys


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    create_learner_keys(tmp_path / "keys")
    (tmp_path / "registry").mkdir()
    return tmp_path / "keys"


def test_a_robot_that_confirms_just_after_the_change_is_no_trouble(
    keys: Path, caplog: pytest.LogCaptureFixture
):
    rotation = KeyRotation(keys, Registry(keys.parent / "registry"))
    next_key = rotation.begin()
    server = ServerKey(keys / SERVER_SECRET)
    rotation.finish()
    # The owner of the socket has not looked at the files since.
    assert not server.note_confirmed("robot-01", next_key)
    assert caplog.messages == []


def test_a_new_key_that_was_open_to_others_is_taken_once_its_mode_is_mended(
    keys: Path, caplog: pytest.LogCaptureFixture
):
    secret = keys / SERVER_SECRET
    server = ServerKey(secret)
    create_learner_keys(keys.parent / "other")
    (keys.parent / "other" / SERVER_SECRET).replace(secret)
    secret.chmod(0o644)
    assert not server.has_changed()
    assert f"chmod 600 {secret}" in caplog.text
    secret.chmod(0o600)
    assert server.has_changed()


def test_a_robot_that_lost_the_next_key_is_not_counted_on_and_is_told_anew(keys: Path):
    next_key = KeyRotation(keys, Registry(keys.parent / "registry")).begin()
    secret = keys / SERVER_SECRET
    now_s = 0.0
    server = ServerKey(secret, clock=lambda: now_s)
    mark_confirmed(secret, "robot-02", next_key)  # as enrolling does
    for robot in ("robot-01", "robot-02"):
        assert not server.note_confirmed(robot, next_key)
    assert confirmed(secret, next_key) == {"robot-01", "robot-02"}
    for robot in ("robot-01", "robot-02"):
        assert server.note_confirmed(robot, "")
    assert confirmed(secret, next_key) == set()
    now_s += MARKED_AGAIN_AFTER_S
    assert not server.note_confirmed("robot-01", next_key)
    assert confirmed(secret, next_key) == {"robot-01"}


def test_a_robot_that_says_something_else_each_time_fills_neither_the_log_nor_the_disks_time(
    keys: Path, caplog: pytest.LogCaptureFixture
):
    next_key = KeyRotation(keys, Registry(keys.parent / "registry")).begin()
    secret = keys / SERVER_SECRET
    now_s = 0.0
    server = ServerKey(secret, RefusalLog(logging.getLogger(__name__)), clock=lambda: now_s)
    with caplog.at_level(logging.INFO):
        for _ in range(60):
            server.note_confirmed("robot-01", next_key)
            assert server.note_confirmed("robot-01", "")
            assert not server.note_confirmed("robot-01", next_key)
            assert confirmed(secret, next_key) == set(), "not again so soon"
            now_s += MARKED_AGAIN_AFTER_S
    assert len(caplog.messages) == 2 * LOGGED_REFUSALS
    assert "robot-01 has stored the learner's next key" in caplog.text


def test_a_mark_of_a_robot_that_was_enrolled_but_has_not_the_key_is_withdrawn(keys: Path):
    next_key = KeyRotation(keys, Registry(keys.parent / "registry")).begin()
    server = ServerKey(keys / SERVER_SECRET)
    mark_confirmed(keys / SERVER_SECRET, "robot-01", next_key)
    assert server.note_confirmed("robot-01", "")
    assert confirmed(keys / SERVER_SECRET, next_key) == set()


def test_what_other_robots_have_confirmed_is_not_read_with_every_heartbeat(keys: Path):
    next_key = KeyRotation(keys, Registry(keys.parent / "registry")).begin()
    server = ServerKey(keys / SERVER_SECRET)
    server.note_confirmed("robot-01", next_key)
    # Reading these would fail.
    (confirmed_folder(keys / SERVER_SECRET) / "robot-02").mkdir()
    server.note_confirmed("robot-01", next_key)
    server.note_confirmed("robot-03", next_key)
    (confirmed_folder(keys / SERVER_SECRET) / "robot-02").rmdir()
    assert confirmed(keys / SERVER_SECRET, next_key) == {"robot-01", "robot-03"}


def test_a_confirmation_that_cannot_be_noted_is_said_while_the_change_goes_on(
    keys: Path, caplog: pytest.LogCaptureFixture
):
    next_key = KeyRotation(keys, Registry(keys.parent / "registry")).begin()
    server = ServerKey(keys / SERVER_SECRET)
    confirmed_folder(keys / SERVER_SECRET).rmdir()
    for _ in range(3):
        server.note_confirmed("robot-01", next_key)
    (said,) = caplog.messages
    assert "robot-01 has stored the next key; not noted" in said
