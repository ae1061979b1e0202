"""The policy of an agent: what a random attempt is called, and when a release is dropped."""

from __future__ import annotations

from protocol.episode import Mode
from protocol.errors import NonFiniteScoreError, RejectedReleaseError, RobotError
from protocol.release import RANDOM_POLICY_DIGEST, unpack_release
from robot_agent.policy.in_use import PolicyInUse
from robot_agent.policy.q_function import QFunction
from tests.releases import CALIBRATION, SIGNING_KEY, make_release

NAN = NonFiniteScoreError("65 of 65 predicted successes are NaN")
BROKEN = RejectedReleaseError("score graph: cannot be run")


def q_function(version: int) -> QFunction:
    release = unpack_release(make_release(version), SIGNING_KEY.public_key())
    return QFunction(release, robot_id="robot-1", calibration=CALIBRATION)


def test_a_random_attempt_names_the_release_in_use_but_is_not_its_own():
    policy = PolicyInUse()
    assert policy.identity(Mode.RANDOM) == policy.release
    policy.take(q_function(7))
    random, greedy = policy.identity(Mode.RANDOM), policy.identity(Mode.GREEDY)
    assert (random.release_version, random.digest) == (7, RANDOM_POLICY_DIGEST)
    assert greedy == policy.release
    assert greedy.digest != RANDOM_POLICY_DIGEST


def test_a_release_whose_network_fails_three_times_in_a_row_gives_way_to_the_one_before():
    policy = PolicyInUse()
    good, bad = q_function(1), q_function(2)
    policy.take(good)
    policy.take(bad)
    policy.note_attempt(Mode.GREEDY, NAN)
    policy.note_attempt(Mode.RANDOM, None)  # says nothing of the network
    policy.note_attempt(Mode.GREEDY, BROKEN)
    assert policy.q_function is bad
    assert not policy.trouble

    policy.note_attempt(Mode.EXPLORE, NAN)

    assert policy.q_function is good
    assert "release 2 is dropped" in policy.trouble
    assert "65 of 65" in policy.trouble
    assert "release 1 is back in use" in policy.trouble

    policy.take(q_function(3))
    assert not policy.trouble


def test_without_a_release_before_it_attempts_become_random():
    policy = PolicyInUse()
    policy.take(q_function(1))
    for _ in range(3):
        policy.note_attempt(Mode.GREEDY, NAN)
    assert policy.q_function is None
    assert policy.release.release_version == 0
    assert "attempts are random" in policy.trouble


def test_an_attempt_that_the_robot_or_nobody_aborted_clears_the_network():
    policy = PolicyInUse()
    policy.take(q_function(1))
    for error in (NAN, NAN, None, NAN, NAN, RobotError("servo 3 does not answer"), NAN, NAN):
        policy.note_attempt(Mode.GREEDY, error)
    assert policy.q_function is not None
    assert policy.release.release_version == 1
