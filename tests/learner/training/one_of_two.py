"""One of two workers that train together, in a process of its own: RANK FOLDER NETWORK."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import torch

from learner.config import TrainingConfig
from learner.networks import build_network
from learner.training.batch_statistics import BATCH_SIZE, measure_statistics
from learner.training.example_set import ExampleSet
from learner.training.hand_eye_refiner import HandEyeRefiner
from learner.training.step import Training
from learner.training.team import Team
from tests.learner.spot_task import SIDE_PX, make_examples, spot_episode, step_on


def attempts_of(refiner: HandEyeRefiner, robots: list[str]) -> ExampleSet:
    """Return examples of attempts by these robots in turn."""
    rng = np.random.default_rng(1)
    examples = make_examples()
    for index in range(40):
        episode = spot_episode(rng, success=index % 2 == 0, robot_id=robots[index % len(robots)])
        examples.add(episode, refiner.key_of(episode))
    return examples


def work(rank: int, folder: Path, network_name: str) -> None:
    """Train for three steps; write down what came of it."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    torch.manual_seed(0)
    network = build_network(network_name, height_px=SIDE_PX, width_px=SIDE_PX)
    team = Team(rank=rank, size=2)
    training = Training(network, TrainingConfig(batch_size=32), seed=0, team=team)
    # Each has seen other robots, and one of them both, in another order.
    robots = [["arm-a", "arm-b"], ["arm-c", "arm-a"]][rank]
    examples = attempts_of(training.learned.refiner, robots)
    losses = []
    for step in range(3):
        losses.append(step_on(training, examples))
        if rank == 0:  # the other knows nothing of it
            measure_statistics(
                training.averaged,
                lambda number, at=step: training.sample_aside(examples, at, number, BATCH_SIZE),
            )
    found = {
        "losses": losses,
        "known": training.learned.refiner.known(),
        "rows": training.learned.refiner.rows_of(examples.newest(2).calibration_B).tolist(),
        "weights": [float(p.detach().double().sum()) for p in training.learned.parameters()],
        "seen": training.examples_seen,
    }
    (folder / f"{rank}.json").write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
