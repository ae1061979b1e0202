"""The learner's key while it is being changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.enrolment import SERVER_SECRET, create_learner_keys
from fleet.key_rotation import KeyRotation
from protocol.registry import Registry
from protocol.server_key import ServerKey, confirmed_folder


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


def test_a_confirmation_that_cannot_be_noted_is_said_while_the_change_goes_on(
    keys: Path, caplog: pytest.LogCaptureFixture
):
    next_key = KeyRotation(keys, Registry(keys.parent / "registry")).begin()
    server = ServerKey(keys / SERVER_SECRET)
    confirmed_folder(keys / SERVER_SECRET).rmdir()
    server.note_confirmed("robot-01", next_key)
    assert "robot-01 has stored the next key; not noted" in caplog.messages[0]
