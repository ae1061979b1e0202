"""A decision on one core: the full search through ONNX Runtime and in eager torch.

    .venv/bin/python -m tests.benchmarks.bench_search [--network patch] [--decisions 200]

Both sides take turns, decision by decision, in one process on one core, so that the ratio holds
even where the machine's speed drifts. A decision is one encoding of two pictures and three
iterations of 64 candidates (65 in the first, which also scores staying).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
import torch

from learner.networks import NETWORKS, GraspNetwork, build_network
from learner.releases.builder import ReleaseBuilder
from protocol.episode import GripperPose, ImageArray
from protocol.hand_eye import HandEyeMap
from protocol.release import unpack_release
from protocol.release_manifest import SearchSettings
from robot_agent.config import WorkspaceConfig
from robot_agent.q_function import QFunction
from robot_agent.safety import Workspace
from robot_agent.search import GraspScore, prior, search
from tests.releases import SIGNING_KEY, make_manifest

SIZE_PX = 64
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


def decide(look: Look, images: np.ndarray, seed: int) -> float:
    """Run one decision; return its wall time in milliseconds."""
    began = time.perf_counter()
    search(
        look(images[0], images[1]),
        pose=POSE,
        stay=POSE,
        start=prior(WORKSPACE, None),
        workspace=WORKSPACE,
        settings=SearchSettings(),
        rng=np.random.default_rng(seed),
    )
    return (time.perf_counter() - began) * 1e3


def measure(looks: dict[str, Look], decisions: int) -> dict[str, np.ndarray]:
    """Return wall times in milliseconds of ``decisions`` decisions per look, taken in turns."""
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in looks}
    for turn in range(decisions + 10):
        images = rng.integers(0, 256, (2, SIZE_PX, SIZE_PX, 3), np.uint8)
        for name, look in looks.items():
            elapsed_ms = decide(look, images, seed=turn)
            if turn >= 10:  # the first ones warm caches up
                times[name].append(elapsed_ms)
    return {name: np.array(values) for name, values in times.items()}


def looks_of(network: GraspNetwork) -> dict[str, Look]:
    hand_eye_map = network.example_inputs()["hand_eye_map"]
    manifest = make_manifest(size_px=SIZE_PX)
    data = ReleaseBuilder(network).build(network.state_dict(), manifest, SIGNING_KEY)
    q_function = QFunction(
        unpack_release(data, SIGNING_KEY.public_key()),
        robot_id="robot-1",
        calibration=HandEyeMap(matrix=hand_eye_map.numpy()),
    )
    return {
        "ONNX Runtime, as on the robot": onnx_look(q_function),
        "eager torch, the same graphs": torch_look(network, hand_eye_map),
        "eager torch, as trained": plain_torch_look(network, hand_eye_map),
    }


def print_table(network: str, times: dict[str, np.ndarray]) -> None:
    base = float(np.median(next(iter(times.values()))))
    print(f"\nfull search, 3 x 64, {SIZE_PX} px, {network} network, one core")
    print(f"{'':32}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>8}")
    for name, values in times.items():
        p50, p99 = np.percentile(values, (50, 99))
        print(f"{name:32}{p50:9.2f}{p99:9.2f}{p50 / base:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=sorted(NETWORKS), nargs="*", default=["patch"])
    parser.add_argument("--decisions", type=int, default=200)
    options = parser.parse_args()
    for name in options.network:
        network = build_network(name, height_px=SIZE_PX, width_px=SIZE_PX).eval()
        looks = looks_of(network)
        torch.set_num_threads(1)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        with torch.inference_mode():
            print_table(name, measure(looks, options.decisions))


if __name__ == "__main__":
    main()
