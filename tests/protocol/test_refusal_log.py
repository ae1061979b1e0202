"""What is refused is said, but not as often as whoever is refused would like."""

from __future__ import annotations

import logging

import pytest

from protocol.limits import LOGGED_REFUSALS, LOGGING_PERIOD_S
from protocol.refusal_log import RefusalLog, printable


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> RefusalLog:
    return RefusalLog(logging.getLogger("test"), clock)


def test_the_first_refusals_are_said_and_the_rest_counted(
    log: RefusalLog, clock: Clock, caplog: pytest.LogCaptureFixture
):
    for number in range(1000):
        log.warn("arm", "malformed", f"number {number}")
        log.say_counts()
    assert len(caplog.records) == LOGGED_REFUSALS
    clock.now_s += LOGGING_PERIOD_S
    log.say_counts()
    assert f"{1000 - LOGGED_REFUSALS} more times" in caplog.text
    assert "the last time: number 999" in caplog.text
    log.warn("arm", "malformed", "later")
    assert caplog.messages[-1] == "arm is refused (malformed): later"


def test_one_peer_and_one_reason_do_not_hide_another(
    log: RefusalLog, caplog: pytest.LogCaptureFixture
):
    for _ in range(100):
        log.warn("arm", "malformed", "x")
    log.warn("arm", "digest", "x")
    log.warn("leg", "malformed", "x")
    assert len(caplog.records) == LOGGED_REFUSALS + 2


def test_few_refusals_are_not_counted_again(
    log: RefusalLog, clock: Clock, caplog: pytest.LogCaptureFixture
):
    log.warn("arm", "name", "x")
    clock.now_s += LOGGING_PERIOD_S
    log.say_counts()
    assert len(caplog.records) == 1


def test_what_is_no_refusal_is_under_the_same_limit_and_keeps_its_level(
    log: RefusalLog, clock: Clock, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    for _ in range(100):
        log.note(logging.INFO, "arm", "connected", "from 10.0.0.1")
    clock.now_s += LOGGING_PERIOD_S
    log.say_counts()
    assert caplog.messages[0] == "arm connected: from 10.0.0.1"
    assert len(caplog.records) == LOGGED_REFUSALS + 1
    assert {record.levelno for record in caplog.records} == {logging.INFO}


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\x1b[2Jb", "a\u2028b", "a\x00b"])
def test_what_could_fake_a_line_or_steer_a_terminal_is_replaced(text: str):
    assert printable(text).isprintable()
    assert printable("grün, 90 %: 手") == "grün, 90 %: 手"
