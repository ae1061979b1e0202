"""How robots are told to explore as the fleet's experience grows."""

from __future__ import annotations

from learner.config import CollectionConfig
from protocol.release_manifest import CollectionSettings


def collection_settings(attempts: int, config: CollectionConfig) -> CollectionSettings:
    """Return the exploration settings for a release after ``attempts`` attempts of the fleet.

    Random first; then mostly the network, with moves that grow as it gets better at using them
    (Levine et al. 2016, section V).
    """
    if attempts < config.random_attempts:
        return CollectionSettings(
            random_fraction=1.0, explore_fraction=0.0, max_moves=config.first_max_moves
        )
    progress = min(1.0, attempts / config.attempts_to_final_moves)
    moves = config.first_max_moves + progress * (config.final_max_moves - config.first_max_moves)
    return CollectionSettings(
        random_fraction=config.random_fraction,
        explore_fraction=config.explore_fraction,
        max_moves=round(moves),
    )
