"""The episodes that every system is given: ten pictures of 64x64, as JPEG records and as pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from protocol.codec import encode_episode
from protocol.episode import Episode
from tests.benchmarks.peers.contract import agent_name, episodes_file, write_episodes
from tests.episodes import make_episode

EPISODES = 16
"""Different ones, so that no store can gain from repetition."""
PICTURES = 10
SIDE_PX = 64


def benchmark_episode(name: str, seed: int) -> Episode:
    """Return one episode of agent ``name``; the same pictures for every agent."""
    return make_episode(name, seed, steps=PICTURES - 2, side_px=SIDE_PX)


def pixels(episode: Episode) -> bytes:
    """Return the pictures as uint8[10, 64, 64, 3], in the order of the record."""
    images = [episode.first_image, episode.last_image]
    images += [step.observation.image for step in episode.steps]
    return np.stack(images).tobytes()


def write_all(folder: Path, agents: int) -> None:
    """Write what adapters read, for up to ``agents`` agents."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = [pixels(benchmark_episode("", seed)) for seed in range(EPISODES)]
    write_episodes(episodes_file(folder, "raw", 0), raw)
    for agent in range(agents):
        records = [
            encode_episode(benchmark_episode(agent_name(agent), seed)) for seed in range(EPISODES)
        ]
        write_episodes(episodes_file(folder, "jpeg", agent), records)
