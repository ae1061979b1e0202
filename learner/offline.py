"""``python -m learner.offline``: train on recorded stores alone, without a robot."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import torch
import tyro

from learner.config import LearnerConfig
from learner.logs import configure_logs
from learner.networks import build_network
from learner.provenance import software_versions
from learner.releases.builder import ReleaseBuilder
from learner.store.episode_store import EpisodeStore
from learner.training.checkpoints import Checkpoints
from learner.training.replay import Replay
from learner.training.step import Training
from protocol.codec import decode_episode
from protocol.configuration import load_toml
from protocol.errors import ConfigurationError, GraspFleetError
from protocol.release_manifest import CollectionSettings, ReleaseManifest, SearchSettings
from protocol.security import load_release_secret

logger = logging.getLogger("learner.offline")

_READ_AT_ONCE = 256
_REPORTS = 20
"""Lines of progress in a training, each with an evaluation on what was held out."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train a network on recorded episode stores and write a signed release.

    Network, picture size, batch size and rates are those of the learner's configuration file.
    Robots of different stores are told apart by their calibration.
    """

    config: Annotated[Path, tyro.conf.arg(metavar="TOML")]
    """The learner's configuration file."""
    stores: tuple[Path, ...]
    """Folders of episode stores."""
    visits: float
    """How many times each example is used, on average."""
    out: Path
    """Folder for the release, the checkpoints and the metrics of this training."""


def main() -> None:
    """Train; exit status 2 for a wrong configuration, 1 for any other failure."""
    configure_logs("info")
    arguments = tyro.cli(Arguments, prog="python -m learner.offline")
    try:
        train(load_toml(arguments.config, LearnerConfig), arguments)
    except GraspFleetError as error:
        sys.stderr.write(f"learner.offline: {error}\n")
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)


def train(config: LearnerConfig, arguments: Arguments) -> Path:
    """Train on everything in the stores; return the release's path."""
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.training.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    signing_key = load_release_secret(config.keys.release_secret)
    network = build_network(
        config.network, height_px=config.image_height_px, width_px=config.image_width_px
    )
    training = Training(network, config.training, seed=config.seed)
    replay = _replay_of(config, arguments.stores, training)
    metrics = _fit(training, replay, arguments)
    Checkpoints(folder=arguments.out / "checkpoints", network=config.network).save(
        training, release_version=1
    )
    release = ReleaseBuilder(network).build(
        training.averaged.network.state_dict(),
        _manifest(config, training, metrics),
        signing_key,
    )
    path = arguments.out / "offline.gfrel"
    path.write_bytes(release)
    logger.info("release written to %s", path)
    return path


def _replay_of(config: LearnerConfig, stores: tuple[Path, ...], training: Training) -> Replay:
    replay = Replay(
        height_px=config.image_height_px,
        width_px=config.image_width_px,
        held_out_fraction=config.training.held_out_fraction,
    )
    for folder in stores:
        store = EpisodeStore(folder, config.gateway.max_store_bytes, readonly=True)
        after = 0
        while found := store.tail(after, _READ_AT_ONCE):
            for _, stored in found:
                episode = decode_episode(stored.record)
                replay.add(episode, training.learned.refiner.index_of(episode))
            after = found[-1][0]
        store.close()
        logger.info("%s read: %d attempts so far", folder, replay.attempts)
    if not len(replay.training):
        raise ConfigurationError(f"no labelled attempts in {', '.join(map(str, stores))}")
    return replay


def _fit(training: Training, replay: Replay, arguments: Arguments) -> dict[str, float]:
    wanted = arguments.visits * len(replay.training)
    began, due = time.monotonic(), 0.0
    metrics: dict[str, float] = {}
    with (arguments.out / "metrics.jsonl").open("wb") as file:
        while training.examples_seen < wanted:
            loss = training.step(replay.training)
            if training.examples_seen < due:
                continue
            due = min(wanted, training.examples_seen + wanted / _REPORTS)
            metrics = training.evaluate(replay.held_out) | {
                "loss": loss,
                "step": float(training.step_count),
                "attempts": float(replay.attempts),
                "visits": training.examples_seen / len(replay.training),
                "wall_s": time.monotonic() - began,
            }
            file.write(msgspec.json.encode(metrics) + b"\n")
            facts = " ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            logger.info("%3.0f %%: %s", 100 * training.examples_seen / wanted, facts)
    return metrics


def _manifest(
    config: LearnerConfig, training: Training, metrics: dict[str, float]
) -> ReleaseManifest:
    return ReleaseManifest(
        version=1,
        parent=0,
        created_at_ns=time.time_ns(),
        network=config.network,
        image_height_px=config.image_height_px,
        image_width_px=config.image_width_px,
        encode_bytes=1,
        score_bytes=1,
        search=SearchSettings(),
        collection=CollectionSettings(
            random_fraction=0.0, explore_fraction=0.0, max_moves=config.collection.final_max_moves
        ),
        hand_eye_maps=training.averaged.refiner.refined_maps(training.map_doubts),
        metrics=metrics,
        software=software_versions(),
    )


if __name__ == "__main__":
    main()
