"""Tombstones on their way: each once, few at a time, and again when their ack does not come."""

from __future__ import annotations

import pytest

from protocol.messages import Tombstone
from robot_agent.delivery.outbox import Outbox
from robot_agent.delivery.tombstone_sender import TombstoneSender


@pytest.fixture
def outbox(outbox: Outbox) -> Outbox:
    for number in range(10):
        outbox.put(bytes([number]))
    return outbox


@pytest.fixture
def sender(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> TombstoneSender:
    monkeypatch.setattr("robot_agent.delivery.tombstone_sender.MAX_UNDER_WAY", 3)
    return TombstoneSender(outbox, resend_after_s=10.0)


def refuse(outbox: Outbox, *sequences: int) -> None:
    for sequence in sequences:
        outbox.set_aside(sequence, "record", "altered")


def covered(messages: list[Tombstone]) -> list[tuple[int, int]]:
    return [(message.sequence, message.last_sequence) for message in messages]


def test_a_learner_that_does_not_answer_is_told_each_once_and_no_more_than_it_may_be(
    outbox: Outbox, sender: TombstoneSender
):
    refuse(outbox, 1, 2, 4, 5, 6)
    assert covered(sender.next_messages(0.0)) == [(1, 2), (4, 4)]
    assert sender.next_messages(1.0) == []
    outbox.forget([1, 2])
    sender.take_ack([1, 2], 2.0)
    assert covered(sender.next_messages(3.0)) == [(5, 6)]


def test_what_was_told_and_not_acked_is_told_again_after_a_while_and_on_a_new_connection(
    outbox: Outbox, sender: TombstoneSender
):
    refuse(outbox, 1)
    assert covered(sender.next_messages(0.0)) == [(1, 1)]
    assert sender.next_messages(9.0) == []
    assert covered(sender.next_messages(11.0)) == [(1, 1)]
    sender.restart()
    assert covered(sender.next_messages(12.0)) == [(1, 1)]


def test_a_tombstone_below_the_last_one_told_is_not_forgotten(
    outbox: Outbox, sender: TombstoneSender
):
    refuse(outbox, 9)
    sender.next_messages(0.0)
    refuse(outbox, 3)
    outbox.forget([9])
    sender.take_ack([9], 1.0)
    assert covered(sender.next_messages(2.0)) == [(3, 3)]
