"""How exploration changes with the fleet's experience."""

from __future__ import annotations

import pytest

from learner.config import CollectionConfig
from learner.training.collection_schedule import collection_settings

CONFIG = CollectionConfig(
    random_attempts=1000, first_max_moves=2, final_max_moves=10, attempts_to_final_moves=4000
)


@pytest.mark.parametrize("attempts", [0, 999])
def test_the_first_attempts_are_random(attempts: int):
    settings = collection_settings(attempts, CONFIG)
    assert (settings.random_fraction, settings.max_moves) == (1.0, 2)


def test_then_the_network_chooses_most_of_them():
    settings = collection_settings(1000, CONFIG)
    assert (settings.random_fraction, settings.explore_fraction) == (0.1, 0.4)


def test_moves_grow_to_their_final_number_and_no_further():
    moves = [collection_settings(attempts, CONFIG).max_moves for attempts in range(1000, 9000, 500)]
    assert moves == sorted(moves)
    assert moves[0] == 4
    assert collection_settings(4000, CONFIG).max_moves == 10
    assert moves[-1] == 10
