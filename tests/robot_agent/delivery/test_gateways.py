"""The gateways that a robot knows, and where it goes when its own is gone."""

from __future__ import annotations

from pathlib import Path

from robot_agent.delivery.gateways import LEAVE_AFTER_S, LONGEST_ROUND_S, LONGEST_STAY_S, Gateways

A, B, C = (f"tcp://10.0.0.{number}:5701" for number in (1, 2, 3))


def test_with_one_gateway_there_is_nowhere_to_go(tmp_path: Path):
    gateways = Gateways([A], tmp_path)
    assert [gateways.go_on() for _ in range(3)] == [A, A, A]
    assert not gateways.was_sent_on


def test_it_tries_every_other_one_before_the_same_again_and_waits_longer_each_round(tmp_path: Path):
    gateways = Gateways([A, B, C], tmp_path)
    first = {gateways.go_on(), gateways.go_on()}
    assert first == {B, C}
    assert gateways.go_on() == A
    assert gateways.stay_s == LEAVE_AFTER_S
    gateways.go_on()
    assert gateways.stay_s == 2 * LEAVE_AFTER_S
    for _ in range(30):
        gateways.go_on()
    assert gateways.stay_s == min(LONGEST_STAY_S, LONGEST_ROUND_S / 3)
    gateways.welcomed([])
    assert gateways.stay_s == LEAVE_AFTER_S


def test_the_configured_ones_are_tried_before_those_that_were_learnt(tmp_path: Path):
    learnt = [f"tcp://10.0.1.{number}:5701" for number in range(6)]
    gateways = Gateways([A, B], tmp_path)
    gateways.welcomed([A, *learnt])
    assert gateways.go_on() == B
    assert {gateways.go_on() for _ in learnt} == set(learnt)
    assert gateways.go_on() == A


def test_a_round_of_many_gateways_takes_no_longer_however_often_it_was_in_vain(tmp_path: Path):
    many = [f"tcp://10.0.1.{number}:5701" for number in range(8)]
    gateways = Gateways(many, tmp_path)
    for _ in range(10 * len(many)):
        gateways.go_on()
    assert gateways.stay_s * len(many) == LONGEST_ROUND_S


def test_what_a_welcome_named_is_known_after_a_restart(tmp_path: Path):
    gateways = Gateways([A], tmp_path)
    gateways.go_on()
    gateways.welcomed([A, B])
    assert gateways.go_on() == B
    gateways.welcomed([A, B])
    again = Gateways([A], tmp_path)
    assert again.current == B
    assert not again.was_sent_on
    assert again.go_on() == A


def test_other_gateways_in_the_configuration_count_more_than_what_was_learnt(tmp_path: Path):
    Gateways([A], tmp_path).welcomed([A, B])
    assert Gateways([C], tmp_path).current == C


def test_a_redirect_is_followed_and_said_at_the_next_hello(tmp_path: Path):
    gateways = Gateways([A], tmp_path)
    assert gateways.redirect(B, [A, B]) == B
    assert (gateways.current, gateways.was_sent_on) == (B, True)
    assert gateways.go_on() == A


def test_a_redirect_to_what_is_no_endpoint_is_not_followed_and_not_asked_for_again(tmp_path: Path):
    gateways = Gateways([A], tmp_path)
    assert gateways.redirect("tcp://*:1", [A]) == A
    assert gateways.was_sent_on


def test_what_is_no_endpoint_is_not_learnt(tmp_path: Path):
    gateways = Gateways([A], tmp_path)
    gateways.welcomed(["tcp://0.0.0.0", "in place b", B])
    assert gateways.go_on() == B


def test_a_damaged_file_is_ignored(tmp_path: Path):
    Gateways([A], tmp_path).welcomed([A, B])
    (tmp_path / "gateways.json").write_text("{")
    assert Gateways([A], tmp_path).current == A
