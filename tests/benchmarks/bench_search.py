"""A decision on one core: the full search as on the robot, before, and in eager torch.

    python -m tests.benchmarks.bench_search --seconds 60 --out FILE

All sides take turns, decision by decision, in one process on one core, so that ratios hold even
where the machine's speed drifts. A decision is one encoding of two pictures and three iterations of
candidates (one more in the first, which also scores staying). What the fleet ran before, a wider
network and 64 candidates, is kept as a release: releases carry their graphs, so it still runs.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from learner.networks import GraspNetwork, build_network
from learner.releases.builder import ReleaseBuilder
from protocol.episode import GripperPose, ImageArray
from protocol.hand_eye import HandEyeMap
from protocol.release import unpack_release
from protocol.release_manifest import SearchSettings
from robot_agent.config import WorkspaceConfig
from robot_agent.policy.q_function import QFunction
from robot_agent.policy.search import GraspScore, prior, search
from robot_agent.safety.workspace import Workspace
from tests.benchmarks.figures import Figure, Findings, add_out_option, figure_of, report
from tests.releases import SIGNING_KEY, make_manifest

SIZE_PX = 64
ROUNDS = 10
WARM_UP = 10
PREVIOUS_RELEASE = Path(__file__).with_name("wider_patch.gfrel")
SEARCH, SEARCH_BEFORE = SearchSettings(), SearchSettings(samples=64)
NOW, BEFORE = "ONNX Runtime, as on the robot", "ONNX Runtime, as before"
SAME_GRAPHS, AS_TRAINED = "eager torch, the same graphs", "eager torch, as trained"
WORKSPACE = Workspace(
    WorkspaceConfig(x_m=(-0.10, 0.10), y_m=(-0.07, 0.07), z_m=(0.003, 0.12), max_step_m=0.5)
)
POSE = GripperPose(x_m=0.01, y_m=-0.02, z_m=0.08, yaw_rad=0.3)
Look = Callable[[ImageArray, ImageArray], GraspScore]
"""Encodes the pictures of one decision and returns how to score its candidates."""


def onnx_look(q_function: QFunction) -> Look:
    def look(first_image: ImageArray, image: ImageArray) -> GraspScore:
        features = q_function.encode(first_image, image)
        return lambda actions: q_function.score(features, POSE, actions)

    return look


def torch_look(network: GraspNetwork, hand_eye_map: torch.Tensor) -> Look:
    """The graphs' own modules in eager torch: the same search, the same work per candidate."""
    encode, score = network.encode_graph().eval(), network.score_graph().eval()
    pose = torch.from_numpy(POSE.as_array())

    def look(first_image: ImageArray, image: ImageArray) -> GraspScore:
        features = encode(torch.from_numpy(first_image)[None], torch.from_numpy(image)[None])
        return lambda actions: score(
            features, pose, hand_eye_map, torch.from_numpy(actions)
        ).numpy()

    return look


def plain_torch_look(network: GraspNetwork, hand_eye_map: torch.Tensor) -> Look:
    """The network as it is trained, in eager torch: nothing computed once per decision."""
    pose = torch.from_numpy(POSE.as_array())

    def look(first_image: ImageArray, image: ImageArray) -> GraspScore:
        first, now = torch.from_numpy(first_image), torch.from_numpy(image)

        def score(actions: np.ndarray) -> np.ndarray:
            count = len(actions)
            logits = network(
                first.expand(count, -1, -1, -1),
                now.expand(count, -1, -1, -1),
                pose.expand(count, -1),
                hand_eye_map.expand(count, -1, -1),
                torch.from_numpy(actions),
            )
            return logits.sigmoid().numpy()

        return score

    return look


def decide(look: Look, settings: SearchSettings, images: np.ndarray, seed: int) -> float:
    """Run one decision; return its wall time in milliseconds."""
    began = time.perf_counter()
    search(
        look(images[0], images[1]),
        pose=POSE,
        stay=POSE,
        start=prior(WORKSPACE, None),
        workspace=WORKSPACE,
        settings=settings,
        rng=np.random.default_rng(seed),
    )
    return (time.perf_counter() - began) * 1e3


def measure(looks: dict[str, Look], seconds: float) -> dict[str, list[float]]:
    """Return ROUNDS medians per look, in milliseconds; the looks take turns at decisions."""
    rng = np.random.default_rng(0)
    rounds: dict[str, list[float]] = {name: [] for name in looks}

    def turn(seed: int) -> dict[str, float]:
        images = rng.integers(0, 256, (2, SIZE_PX, SIZE_PX, 3), np.uint8)
        # In any order: who comes after the largest finds the caches cold.
        return {
            name: decide(looks[name], SEARCH_BEFORE if name == BEFORE else SEARCH, images, seed)
            for name in rng.permutation(list(looks)).tolist()
        }

    for seed in range(WARM_UP):
        turn(seed)
    began = time.monotonic()
    for one in range(1, ROUNDS + 1):
        turns = [turn(seed=WARM_UP)]
        while time.monotonic() < began + one * seconds / ROUNDS:
            turns.append(turn(seed=WARM_UP + len(turns)))
        for name, medians in rounds.items():
            medians.append(float(np.median([times[name] for times in turns])))
    return rounds


def looks_of(network: GraspNetwork) -> dict[str, Look]:
    """Return every way to score the same candidates on the same pictures."""
    hand_eye_map = network.example_inputs()["hand_eye_map"]
    manifest = make_manifest(size_px=SIZE_PX)
    release = ReleaseBuilder(network).build(network.state_dict(), manifest, SIGNING_KEY)
    onnx_looks = {
        name: onnx_look(
            QFunction(
                unpack_release(data, SIGNING_KEY.public_key()),
                robot_id="robot-1",
                calibration=HandEyeMap(matrix=hand_eye_map.numpy()),
            )
        )
        for name, data in ((NOW, release), (BEFORE, PREVIOUS_RELEASE.read_bytes()))
    }
    return onnx_looks | {
        SAME_GRAPHS: torch_look(network, hand_eye_map),
        AS_TRAINED: plain_torch_look(network, hand_eye_map),
    }


def figures(rounds: dict[str, list[float]]) -> list[Figure]:
    """Return the times of all sides and what they are beside each other."""

    def ratio(name: str, other: str, bound: str) -> Figure:
        values = [a / b for a, b in zip(rounds[name], rounds[other], strict=True)]
        return figure_of(f"{name} / {other}", values, "x", bound=bound)

    times = [figure_of(f"a decision: {name}", values, "ms") for name, values in rounds.items()]
    return [*times, ratio(NOW, BEFORE, "<= 0.333"), ratio(NOW, SAME_GRAPHS, "<= 1.0")]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for all decisions (60)")
    add_out_option(parser)
    arguments = parser.parse_args()
    network = build_network("patch", height_px=SIZE_PX, width_px=SIZE_PX).eval()
    looks = looks_of(network)
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with torch.inference_mode():
        rounds = measure(looks, arguments.seconds)
    findings = Findings(
        title="a decision on one core",
        settings={
            "picture_px": SIZE_PX,
            "candidates": SEARCH.samples,
            "candidates_before": SEARCH_BEFORE.samples,
            "iterations": SEARCH.iterations,
            "seconds": arguments.seconds,
        },
        figures=figures(rounds),
    )
    report(findings, arguments.out)


if __name__ == "__main__":
    main()
