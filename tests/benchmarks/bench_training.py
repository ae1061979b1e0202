"""Training: how much of the loop's time is steps, what replay costs, how soon a store is open.

    .venv/bin/python -m tests.benchmarks.bench_training [--seconds 100] [--out FILE]

Offline and cached-tensor steps take turns in one process; live training runs the learner's own
trainer on a store that another process keeps adding to. The large store is made of a few distinct
records and deleted afterwards.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import torch

from learner.config import KeysConfig, LearnerConfig
from learner.monitoring.training_report import TrainingReport
from learner.offline import OfflineRun
from learner.store.episode_store import EpisodeStore
from learner.store.stored_episode import Arrival, RecordKey
from learner.training.batches import Batches
from learner.training.hand_eye_refiner import HandEyeRefiner
from learner.training.replay import Replay
from learner.training.replay_feed import ReplayFeed
from learner.training.trainer import Trainer
from protocol.codec import decode_episode, digest, encode_episode
from protocol.process_memory import anonymous_bytes
from protocol.security import create_release_keys
from tests.benchmarks.figures import Figure, Findings, add_out_option, figure_of, report
from tests.episodes import make_episode

SIDE_PX = 64
STEPS_PER_ATTEMPT = 5
STORE_BYTES = 8 * 10**9
LARGE_STORE = 100_000
TURN_S = 1.0
"""Short, so that whatever else runs on the machine slows down both sides alike."""
EXAMPLE_BYTES = SIDE_PX * SIDE_PX * 3 * (1 + 1 / STEPS_PER_ATTEMPT) + 4 * (4 + 5)
"""Raw: its picture, its share of the attempt's first one, pose and action."""


def records() -> list[bytes]:
    """Return distinct records, of some robots."""
    return [
        encode_episode(
            make_episode(f"arm-{i % 8}", seed=i, steps=STEPS_PER_ATTEMPT, success=i % 4 == 0)
        )
        for i in range(64)
    ]


def fill(folder: Path, count: int) -> None:
    """Make a store of ``count`` episodes out of a few distinct ones."""
    distinct = records()
    store = EpisodeStore(folder, STORE_BYTES)
    for first in range(0, count, 2000):
        store.commit(
            [
                _arrival(distinct, number)
                for number in range(first + 1, min(count, first + 2000) + 1)
            ]
        )
    store.close()


def _arrival(distinct: list[bytes], number: int) -> Arrival:
    record = distinct[number % len(distinct)]
    key = RecordKey(robot_id=f"arm-{number % 8}", spool_id=bytes(16), sequence=number)
    return Arrival(key=key, digest=digest(record), record=record, letter="f")


def deliver(folder: Path, begin: int, per_s: float, stopping: Event) -> None:
    """Add episodes at a steady rate, as the gateway's process would."""
    distinct = records()
    store = EpisodeStore(folder, STORE_BYTES)
    number = begin
    while not stopping.wait(1 / per_s):
        number += 1
        store.commit([_arrival(distinct, number)])
    store.close()


def config_of(folder: Path) -> LearnerConfig:
    create_release_keys(folder / "release.secret", folder / "release.public")
    keys = KeysConfig(
        server_secret=folder / "server.secret",
        release_secret=folder / "release.secret",
        registry=folder,
    )
    config = LearnerConfig(run_folder=folder / "run", keys=keys)
    return replace(
        config,
        gateway=replace(config.gateway, store=folder / "store", max_store_bytes=STORE_BYTES),
        training=replace(config.training, max_visits=1e9),
    )


class Nowhere:
    """An outlet that takes releases and does nothing with them."""

    def newest(self) -> bytes | None:
        return None

    def highest_version(self) -> int:
        return 0

    def publish(self, version: int, data: bytes) -> None:
        """See Outlet."""

    def withhold(self, reason: str) -> None:
        """See Outlet."""

    def report(self, report: TrainingReport) -> None:
        """See Outlet."""


def steps_per_s(step: Callable[[], object], seconds: float) -> float:
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - began)


def measure_offline(folder: Path, seconds: float) -> Iterator[Figure]:
    """Offline steps against the same step on one batch that never changes, in turns."""
    config = replace(config_of(folder), run_folder=folder / "offline")
    run = OfflineRun(config, [folder / "store"], visits=1e9)
    run.history.read_all()
    training = run.training
    cached = run.draw(0)
    ratios, rounds = [], max(3, round(seconds / (2 * TURN_S)))
    with Batches(run.draw) as batches:
        training.step(batches.of(training.step_count))
        for _ in range(rounds):
            tensor = steps_per_s(lambda: training.step(cached), TURN_S)
            stored = steps_per_s(lambda: training.step(batches.of(training.step_count)), TURN_S)
            ratios.append(stored / tensor)
    yield figure_of(
        "offline steps against the same on a cached tensor", ratios, "x", bound=">= 0.9"
    )


def measure_offline_share(folder: Path, seconds: float) -> Iterator[Figure]:
    """The whole offline loop, with its reports and checkpoints, while the store is still read."""
    config = replace(config_of(folder), run_folder=folder / "whole")
    config.run_folder.mkdir()
    run = OfflineRun(config, [folder / "store"], visits=1e9)
    run.run(_set_after(seconds, begun=lambda: run.clock.in_steps_s > 0))
    yield Figure(
        name="time in the step, offline", value=run.clock.step_share, unit="x", bound=">= 0.95"
    )


def measure_live(folder: Path, seconds: float) -> Iterator[Figure]:
    """The learner's trainer beside a store that grows by 20 episodes a second."""
    context = multiprocessing.get_context("spawn")
    done = context.Event()
    writer = context.Process(target=deliver, args=(folder / "store", 10**6, 20.0, done))
    writer.start()
    try:
        config = config_of(folder)
        config.run_folder.mkdir(parents=True)
        trainer = Trainer(config, Nowhere())
        trainer.run(_set_after(seconds, begun=lambda: trainer.clock.in_steps_s > 0))
    finally:
        done.set()
        writer.join()
    yield Figure(
        name="time in the step, live, 20 episodes/s arriving",
        value=trainer.clock.step_share,
        unit="x",
        bound=">= 0.95",
    )


def replay_of(max_bytes: int = 4_000_000_000) -> Replay:
    return Replay(height_px=SIDE_PX, width_px=SIDE_PX, held_out_fraction=0.05, max_bytes=max_bytes)


def measure_memory() -> Iterator[Figure]:
    """Resident memory that examples add, beside what they are made of."""
    episodes = [decode_episode(record) for record in records()]
    replay, added, before = replay_of(), 0, anonymous_bytes()
    for number in range(6000):
        episode = replace(episodes[number % 64], episode_id=f"{number:032x}")
        replay.add(episode, number % 8)
        added += len(episode.steps)
    yield Figure(
        name="replay memory per example, over its raw bytes",
        value=(anonymous_bytes() - before) / added / EXAMPLE_BYTES,
        unit="x",
        bound="<= 1.1",
        note=f"{added} examples of {EXAMPLE_BYTES:.0f} bytes",
    )


def measure_opening(folder: Path) -> Iterator[Figure]:
    """From opening a large store to the first batch that training may use, and to the last."""
    fill(folder / "large", LARGE_STORE)
    config = replace(config_of(folder).gateway, store=folder / "large")
    began = time.monotonic()
    replay = replay_of()
    feed = ReplayFeed([config], replay, HandEyeRefiner())
    feed.start()
    feed.opened.wait()
    replay.training.sample(256, np.random.default_rng(0))
    opened_s = time.monotonic() - began
    attempts = replay.attempts
    rest = time.monotonic()
    while not feed.caught_up.wait(0.1) and time.monotonic() - rest < 20:
        feed.check()
    rate = (replay.attempts - attempts) / (time.monotonic() - rest)
    feed.close()
    yield Figure(
        name=f"a store of {LARGE_STORE} episodes is open for training",
        value=opened_s,
        unit="s",
        bound="<= 10",
        note=f"with the newest {attempts} attempts",
    )
    yield Figure(
        name="the rest of it, in the background",
        value=rate,
        unit="episodes/s",
        note=f"{LARGE_STORE / rate:.0f} s for all",
    )


def _set_after(
    seconds: float, begun: Callable[[], bool] = lambda: True, within_s: float = 60.0
) -> threading.Event:
    """Return an event that is set so long after something has begun."""
    stopping = threading.Event()

    def wait() -> None:
        end_s = time.monotonic() + within_s
        while not begun() and time.monotonic() < end_s:
            time.sleep(0.1)
        stopping.wait(seconds)
        stopping.set()

    threading.Thread(target=wait, daemon=True).start()
    return stopping


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=100.0, help="about how long to take")
    add_out_option(parser)
    options = parser.parse_args()
    logging.basicConfig(level="ERROR")
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel("ERROR")
    torch.set_num_threads(1)
    share_s = 0.28 * options.seconds
    figures = [*measure_memory()]
    # The system's own folder for such files may be RAM, where a store opens sooner.
    on_disk = options.out.resolve().parent if options.out else Path.cwd()
    with tempfile.TemporaryDirectory(dir=on_disk) as name:
        folder = Path(name)
        fill(folder / "store", 6000)
        figures += measure_offline(_made(folder / "a", folder), share_s)
        figures += measure_offline_share(_made(folder / "b", folder), share_s)
        figures += measure_live(_made(folder / "c", folder), share_s)
        figures += measure_opening(_made(folder / "d", folder))
    settings = {"picture px": SIDE_PX, "batch": 256, "workers": 1, "torch threads": 1}
    report(Findings(title="Training", settings=settings, figures=figures), options.out)


def _made(folder: Path, site: Path) -> Path:
    """Return a folder of one measurement that shares the small store."""
    folder.mkdir()
    (folder / "store").symlink_to(site / "store")
    return folder


if __name__ == "__main__":
    main()
