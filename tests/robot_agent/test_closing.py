"""Closing many parts: none is left open, and the first error is the one that is told."""

from __future__ import annotations

import pytest

from protocol.errors import RobotError, SafetyFault
from robot_agent.closing import ClosingStack


def hang_up() -> None:
    raise RobotError("the controller has hung up")


def test_an_error_of_closing_does_not_hide_what_went_wrong_before():
    closed: list[str] = []
    with pytest.raises(SafetyFault, match="emergency stop"), ClosingStack() as parts:
        parts.closes("outbox", lambda: closed.append("outbox"))
        parts.closes("robot", hang_up)
        raise SafetyFault("emergency stop pressed")
    assert closed == ["outbox"]


def test_the_first_error_of_closing_is_raised_when_all_is_closed():
    closed: list[str] = []

    def fail() -> None:
        raise OSError("no such device")

    with pytest.raises(RobotError, match="hung up"), ClosingStack() as parts:
        parts.closes("outbox", lambda: closed.append("outbox"))
        parts.closes("camera", fail)
        parts.closes("robot", hang_up)
    assert closed == ["outbox"]
