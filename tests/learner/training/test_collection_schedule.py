"""How exploration changes with the fleet's experience."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from learner.config import CollectionConfig, LearnerConfig
from learner.training.collection_schedule import collection_settings
from protocol.configuration import from_table
from protocol.errors import ConfigurationError
from protocol.release_manifest import CollectionSettings

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


def config_with(**changes: Any) -> LearnerConfig:
    keys = {"server_secret": "a", "release_secret": "b", "registry": "c"}
    table = {"run_folder": "run", "keys": keys} | changes
    return from_table(table, LearnerConfig, name="learner.toml", folder=Path())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"collection": {"final_max_moves": 101}}, "<= 100 .*collection.final_max_moves"),
        ({"collection": {"first_max_moves": 101}}, "<= 100 .*collection.first_max_moves"),
        ({"image_height_px": 7}, ">= 8 .*image_height_px"),
        ({"image_width_px": 2049}, "<= 2048 .*image_width_px"),
        (
            {"collection": {"random_fraction": 0.8, "explore_fraction": 0.3}},
            "random_fraction 0.8 and explore_fraction 0.3 are more than all attempts",
        ),
    ],
)
def test_what_no_release_may_say_is_refused_before_anything_starts(
    changes: dict[str, Any], reason: str
):
    with pytest.raises(ConfigurationError, match=reason):
        config_with(**changes)


@pytest.mark.parametrize("random_fraction", [0.0, 0.1, 0.3, 0.7, 1.0])
def test_the_most_that_may_be_configured_can_be_released(random_fraction: float):
    collection = {
        "first_max_moves": 100,
        "final_max_moves": 100,
        "random_fraction": random_fraction,
        "explore_fraction": round(1 - random_fraction, 1),
    }
    config = config_with(collection=collection, image_height_px=8, image_width_px=2048).collection
    settings = collection_settings(10_000, config)
    assert settings.max_moves == 100
    msgspec.convert(msgspec.to_builtins(settings), CollectionSettings)
