"""A map that does not come right is noticed, and nothing else is."""

from __future__ import annotations

import torch
from torch import Tensor

from learner.training.hand_eye_refiner import HandEyeRefiner
from learner.training.map_doubts import map_doubts
from learner.training.team import Team
from tests.episodes import make_episode

EXAMPLES = 200


def fleet(skill_by_robot: dict[int, float]) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, labels and robots; a skill of 0 predicts at random."""
    generator = torch.Generator().manual_seed(0)
    robot_B = torch.tensor(list(skill_by_robot)).repeat_interleave(EXAMPLES)
    success_B = (torch.rand(len(robot_B), generator=generator) < 0.7).float()
    skill_B = torch.tensor(list(skill_by_robot.values())).repeat_interleave(EXAMPLES)
    noise_B = torch.randn(len(robot_B), generator=generator)
    return skill_B * (2 * success_B - 1) + noise_B, success_B, robot_B


def test_a_robot_whose_predictions_stay_blind_is_doubted_in_words():
    doubts = map_doubts(*fleet({0: 2.0, 1: 2.0, 2: 0.0, 3: 2.0}))
    assert list(doubts) == [2]
    assert "hand-eye map" in doubts[2]


def test_a_fleet_that_sees_is_not_doubted():
    assert map_doubts(*fleet({0: 2.0, 1: 1.0, 2: 1.5})) == {}


def test_an_untrained_network_raises_no_doubt():
    assert map_doubts(*fleet({0: 0.0, 1: 0.0, 2: 0.1})) == {}


def test_few_examples_raise_no_doubt():
    logit_B, success_B, robot_B = fleet({0: 2.0, 1: 2.0, 2: 0.0})
    kept = torch.cat([torch.arange(2 * EXAMPLES), torch.arange(2 * EXAMPLES, 2 * EXAMPLES + 50)])
    assert map_doubts(logit_B[kept], success_B[kept], robot_B[kept]) == {}


def test_a_doubt_reaches_the_robot_with_the_release():
    refiner = HandEyeRefiner()
    key = refiner.key_of(make_episode("robot-7", seed=1))
    refiner.give_rows(Team())
    assert refiner.refined_maps({key: "blind"})["robot-7"].warning == "blind"
    assert refiner.refined_maps({})["robot-7"].warning == ""
