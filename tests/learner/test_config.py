"""What a ``learner.toml`` may say, and what it may not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from learner.config import LearnerConfig
from protocol.configuration import from_table
from protocol.errors import ConfigurationError

KEYS = "keys = {server_secret = 'a', release_secret = 'b', registry = 'c'}\nrun_folder = 'run'\n"
MOST_SEED = 2**63 - 1


def config_of(text: str) -> LearnerConfig:
    table = tomllib.loads(KEYS + text)
    return from_table(table, LearnerConfig, name="learner.toml", folder=Path("/lab"))


def test_the_highest_seed_is_one_that_every_generator_takes():
    config = config_of(f"seed = {MOST_SEED}")
    torch.manual_seed(config.seed)
    np.random.default_rng((config.seed, 1, 2, 3))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f"seed = {MOST_SEED + 1}", "seed"),
        ("seed = -1", "seed"),
        ("image_height_px = 2049", "image_height_px"),
        ("[gateway]\nmax_store_bytes = 100_000_000_000_001", "gateway.max_store_bytes"),
        ("[gateway]\nwindow_bytes = 9_000_000_000", "gateway.window_bytes"),
        ("[gateway]\nkeep_days = 1e300", "gateway.keep_days"),
        ("[gateway]\nkeep_days = nan", "gateway.keep_days"),
        ("[gateway.metrics]\nforget_after_s = 1e10", "gateway.metrics.forget_after_s"),
        ("[releases]\ninterval_s = 1e300", "releases.interval_s"),
        ("[releases]\nkeep = 1_000_000", "releases.keep"),
        ("[training]\nlearning_rate = 1.5", "training.learning_rate"),
        ("[training]\nlearning_rate = inf", "training.learning_rate"),
        ("[training]\nfinal_learning_rate = 0", "training.final_learning_rate"),
        ("[training]\nweight_decay = 11.0", "training.weight_decay"),
        ("[training]\nbatch_size = 2_000_000", "training.batch_size"),
        ("[training]\ndecay_examples = 1" + 400 * "0", "training.decay_examples"),
        ("[training]\nmax_visits = 1" + 400 * "0", "training.max_visits"),
        ("[training]\nreplay_bytes = 10_000_000_000_000_000", "training.replay_bytes"),
        ("[training]\ncheckpoint_interval_s = 1e6", "training.checkpoint_interval_s"),
        ("[training]\nthreads = 2_000", "training.threads"),
        ("[training]\nworkers = 2_000", "training.workers"),
        ("[collection]\nrandom_attempts = 1" + 30 * "0", "collection.random_attempts"),
        ("[collection]\nfinal_max_moves = 101", "collection.final_max_moves"),
        ("[ray]\nnodes_within_s = 1e10", "ray.nodes_within_s"),
        ("[ray]\nobject_store_bytes = 1_000_000", "ray.object_store_bytes"),
    ],
)
def test_a_value_out_of_its_range_is_named(text: str, where: str):
    with pytest.raises(ConfigurationError, match=rf"^learner\.toml: .*\b{re.escape(where)}\b"):
        config_of(text)


@pytest.mark.parametrize("table", ["gateway", "releases"])
@pytest.mark.parametrize(
    "bind", ["", "tcp://127.0.0.1", "127.0.0.1:5701", "tcp://127.0.0.1:70000", "udp://*:5701"]
)
def test_a_place_to_listen_that_is_none_is_refused(table: str, bind: str):
    with pytest.raises(ConfigurationError, match="is not of the form 'tcp://host:port'"):
        config_of(f"[{table}]\nbind = '{bind}'")


@pytest.mark.parametrize(
    "bind", ["tcp://*:5701", "tcp://[::]:5701", "tcp://eth0:*", "tcp://0.0.0.0:0"]
)
def test_a_place_to_listen_may_leave_address_and_port_open(bind: str):
    assert config_of(f"[releases]\nbind = '{bind}'").releases.bind == bind
