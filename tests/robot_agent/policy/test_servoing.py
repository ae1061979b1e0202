"""Servoing decisions over a Q-function that is known, in ONNX Runtime as on a robot."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from protocol.episode import GripperPose, Mode, Observation, StepKind
from robot_agent.policy.servoing import HIGHEST_RANDOM_M, RandomServo, SearchServo, make_servo
from robot_agent.safety.workspace import Workspace
from tests.robot_agent.hill_release import SIDE_PX, hill_q_function
from tests.robot_agent.simulated_agent import WORKSPACE

IMAGE = np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8)
SPACE = Workspace(WORKSPACE)
TOP = (0.05, 0.03, 0.02)
START = GripperPose(x_m=-0.05, y_m=-0.02, z_m=0.12, yaw_rad=0.3)
ON_TOP = GripperPose(x_m=0.05, y_m=0.03, z_m=0.02, yaw_rad=0.3)


def seen_from(pose: GripperPose) -> Observation:
    return Observation(image=IMAGE, pose=pose, opening_m=0.08, captured_at_ns=1)


def make(q_function=None, *, mode=Mode.GREEDY, max_moves=10, seed=0):
    return make_servo(
        mode,
        q_function or hill_q_function(TOP),
        first_image=IMAGE,
        workspace=SPACE,
        rng=np.random.default_rng(seed),
        max_moves=max_moves,
    )


def distance_to_top_m(pose: GripperPose) -> float:
    return float(np.linalg.norm(pose.as_array()[:3] - TOP))


def near_top(ratio: float, steepness: float = 500.0) -> GripperPose:
    """Return a pose as promising as ``ratio`` times the best one."""
    off_m = float(np.sqrt(-np.log(ratio) / steepness))
    return GripperPose(x_m=TOP[0] - off_m, y_m=TOP[1], z_m=TOP[2], yaw_rad=0.3)


def test_it_moves_to_the_top_and_then_closes_there():
    servo = make()
    first = servo.decide(seen_from(START), START)
    second = servo.decide(seen_from(first.wished), first.wished)
    while second.kind == StepKind.MOVE:
        first, second = second, servo.decide(seen_from(second.wished), second.wished)
    assert first.kind == StepKind.MOVE
    assert second.kind == StepKind.CLOSE
    assert second.wished == first.wished
    assert distance_to_top_m(second.wished) < 0.02


def test_what_the_network_thought_is_in_the_decision():
    decision = make().decide(seen_from(near_top(0.5)), near_top(0.5))
    assert decision.predicted_stay == pytest.approx(0.4, abs=0.01)
    assert 0.7 < decision.predicted_best <= 0.8 + 1e-6
    assert decision.decision_ms > 0


@pytest.mark.parametrize(
    ("ratio", "kind"),
    [
        (0.97, StepKind.CLOSE),
        (0.80, StepKind.MOVE),
        (0.60, StepKind.MOVE),
        (0.40, StepKind.LIFT),
    ],
)
def test_it_closes_from_nine_tenths_and_lifts_below_half(ratio: float, kind: StepKind):
    # Many samples, so that the best one found is the top of the hill.
    servo = make(hill_q_function(TOP, samples=512, elites=20, iterations=4))
    assert servo.decide(seen_from(START), START).kind == StepKind.MOVE
    here = near_top(ratio)
    assert servo.decide(seen_from(here), here).kind == kind


def test_the_release_says_where_closing_and_lifting_begin():
    q_function = hill_q_function(TOP, close_ratio=0.55, lift_ratio=0.2)
    servo = make(q_function)
    servo.decide(seen_from(START), START)
    assert servo.decide(seen_from(near_top(0.6)), near_top(0.6)).kind == StepKind.CLOSE


def test_it_never_closes_where_the_attempt_begins():
    assert make().decide(seen_from(ON_TOP), ON_TOP).kind == StepKind.MOVE


def test_a_lift_goes_straight_up_and_the_search_begins_anew():
    servo = make(hill_q_function(TOP, samples=256, elites=10, lift_m=0.06))
    servo.decide(seen_from(START), START)
    here = near_top(0.2)
    lifted = servo.decide(seen_from(here), here)
    assert lifted.kind == StepKind.LIFT
    raised = dataclasses.replace(here, z_m=here.z_m + 0.06)
    np.testing.assert_allclose(lifted.wished.as_array(), raised.as_array(), atol=1e-6)
    # Not another lift, although here is as bad: the first decision of a search always moves.
    assert servo.decide(seen_from(here), here).kind == StepKind.MOVE


@pytest.mark.parametrize("max_moves", [1, 3])
def test_it_closes_when_its_moves_are_spent(max_moves: int):
    servo = make(max_moves=max_moves)
    kinds = []
    while StepKind.CLOSE not in kinds:
        here = near_top(0.75)  # neither good enough to close nor bad enough to lift
        kinds.append(servo.decide(seen_from(here), here).kind)
        assert len(kinds) <= max_moves + 1
    assert kinds == [StepKind.MOVE] * max_moves + [StepKind.CLOSE]


def test_closing_closes_where_the_hand_was_sent_not_where_it_is():
    servo = make(max_moves=1)
    servo.decide(seen_from(START), START)
    blocked = GripperPose(x_m=0.05, y_m=0.03, z_m=0.035, yaw_rad=0.3)
    decision = servo.decide(seen_from(blocked), ON_TOP)
    assert decision.kind == StepKind.CLOSE
    assert decision.wished == ON_TOP
    assert decision.predicted_stay == pytest.approx(0.8, abs=0.01)


def test_exploring_adds_noise_that_stays_in_the_workspace():
    corner = (0.105, 0.075, 0.0)
    q_function = hill_q_function(corner)

    def wishes(mode: Mode) -> np.ndarray:
        servos = [make(q_function, mode=mode, seed=seed) for seed in range(40)]
        return np.stack([s.decide(seen_from(START), START).wished.as_array() for s in servos])

    greedy, explored = wishes(Mode.GREEDY), wishes(Mode.EXPLORE)

    off_greedy_m = np.linalg.norm(greedy[:, :3] - corner, axis=1)
    off_explored_m = np.linalg.norm(explored[:, :3] - corner, axis=1)
    assert off_explored_m.mean() > off_greedy_m.mean() + 0.002
    assert (explored >= SPACE.low - 1e-6).all()
    assert (explored <= SPACE.high + 1e-6).all()


def test_without_a_q_function_every_attempt_is_random():
    servo = make_servo(
        Mode.GREEDY,
        None,
        first_image=IMAGE,
        workspace=SPACE,
        rng=np.random.default_rng(0),
        max_moves=10,
    )
    assert isinstance(servo, RandomServo)
    assert isinstance(make(mode=Mode.RANDOM), RandomServo)
    assert isinstance(make(mode=Mode.EXPLORE), SearchServo)


def test_random_attempts_make_one_or_two_moves_and_mostly_end_low():
    counts, heights = [], []
    for seed in range(200):
        servo = make(mode=Mode.RANDOM, max_moves=10, seed=seed)
        commanded, moves = START, 0
        while (decision := servo.decide(seen_from(commanded), commanded)).kind == StepKind.MOVE:
            commanded, moves = decision.wished, moves + 1
            assert (commanded.as_array() >= SPACE.low - 1e-6).all()
            assert (commanded.as_array() <= SPACE.high + 1e-6).all()
        assert decision.wished == commanded
        assert decision.predicted_best is None
        counts.append(moves)
        heights.append(commanded.z_m)
    assert set(counts) == {1, 2}
    low = np.mean(np.array(heights) <= HIGHEST_RANDOM_M)
    assert 0.88 < low < 1.0
