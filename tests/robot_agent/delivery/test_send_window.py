"""The window: what is under way, what of it is lost, and how long that takes to be believed."""

from __future__ import annotations

from robot_agent.delivery.send_window import LONGEST_WAIT_S, SendWindow


def filled(*sequences: int, now_s: float = 0.0) -> SendWindow:
    window = SendWindow(10.0)
    window.restart(100)
    for sequence in sequences:
        window.add(sequence, 10, now_s)
    return window


def stall(window: SendWindow, now_s: float, *, limit_s: float = 1e6) -> float:
    """Return how long nothing is answered until the window begins anew, with 1 under way."""
    window.add(1, 10, now_s)
    waited_s = 0.0
    while not window.is_empty and waited_s < limit_s:
        waited_s += 1.0
        window.restart_if_stalled(now_s + waited_s)
    return waited_s


def test_one_record_always_has_room_and_more_only_below_the_limit():
    window = SendWindow(10.0)
    assert window.has_room(10**9)
    window.restart(25)
    window.add(1, 10, 0.0)
    assert window.has_room(15)
    assert not window.has_room(16)
    window.remove([1], 0.0)
    assert window.room == 25


def test_without_acks_it_waits_twice_as_long_each_time_but_never_for_ever():
    window = filled()
    waits_s = [stall(window, at_s) for at_s in (0.0, 1e3, 2e3, 3e3, 4e3, 5e3)]
    assert waits_s == [11.0, 21.0, 41.0, LONGEST_WAIT_S + 1, LONGEST_WAIT_S + 1, LONGEST_WAIT_S + 1]


def test_when_all_that_was_under_way_is_answered_it_waits_as_short_as_at_first():
    window = filled()
    stall(window, 0.0)
    stall(window, 100.0)
    window.add(1, 10, 200.0)
    window.remove([1], 250.0)
    assert stall(window, 300.0) == 11.0


def test_an_answer_to_what_is_not_under_way_is_no_progress():
    window = filled(1, 2)
    window.remove([7], 9.0)
    window.restart_if_stalled(11.0)
    assert window.is_empty
    assert window.cursor == 0
