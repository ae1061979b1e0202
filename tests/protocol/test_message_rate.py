"""How often a key may speak, by a clock that the test turns."""

from __future__ import annotations

from protocol.limits import REFUSED_MESSAGE_COST
from protocol.message_rate import MessageRate


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def rate(clock: Clock, *, per_s: float = 10, burst: float = 20) -> MessageRate:
    return MessageRate(per_s=per_s, burst=burst, clock=clock)


def admitted(rate: MessageRate, key: str, messages: int) -> int:
    return sum(rate.admits(key) for _ in range(messages))


def test_a_burst_passes_and_then_what_flows_in():
    clock = Clock()
    messages = rate(clock)
    assert admitted(messages, "a", 100) == 20
    clock.now_s += 1.0
    assert admitted(messages, "a", 100) == 10
    clock.now_s += 1000.0
    assert admitted(messages, "a", 100) == 20


def test_one_key_takes_nothing_from_another():
    messages = rate(Clock())
    assert admitted(messages, "a", 100) == 20
    assert admitted(messages, "b", 100) == 20


def test_a_refused_message_counts_as_many():
    clock = Clock()
    messages = rate(clock, burst=REFUSED_MESSAGE_COST + 1)
    assert messages.admits("a")
    messages.charge_refusal("a")
    assert messages.admits("a")
    assert not messages.admits("a")


def test_a_key_is_told_once_until_it_was_quiet():
    clock = Clock()
    messages = rate(clock)
    admitted(messages, "a", 100)
    assert [messages.must_be_told("a") for _ in range(3)] == [True, False, False]
    messages.forget_quiet()
    assert not messages.must_be_told("a")
    clock.now_s += 2.0
    messages.forget_quiet()
    admitted(messages, "a", 100)
    assert messages.must_be_told("a")
