"""Releases built from trained weights, and run the way a robot runs them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from learner.networks import GraspNetwork, build_network
from learner.releases.builder import ReleaseBuilder
from learner.releases.export_process import ExportProcess
from protocol.episode import GripperPose
from protocol.errors import RejectedReleaseError, TransientError
from protocol.hand_eye import HandEyeMap
from protocol.release import unpack_release
from robot_agent.policy.q_function import QFunction
from tests.releases import SIGNING_KEY, make_manifest

SIZE_PX = 32
NETWORKS = ("patch", "levine2016")


class WeighedNetwork(GraspNetwork):
    """Its graphs hold expressions of weights alone, which an optimiser would fold away."""

    def __init__(self) -> None:
        super().__init__(height_px=8, width_px=8)
        self.gain = nn.Parameter(torch.tensor([0.3]))
        self.out = nn.Linear(5, 1)

    def forward(self, first_image_BHWC, image_BHWC, pose_B4, map_B34, action_B5) -> Tensor:
        raise AssertionError("only the graphs are looked at here")

    def encode_graph(self) -> nn.Module:
        return _WeighedEncode(self)

    def score_graph(self) -> nn.Module:
        return _WeighedScore(self)


class _WeighedEncode(nn.Module):
    def __init__(self, network: WeighedNetwork) -> None:
        super().__init__()
        self.gain = network.gain

    def forward(self, first_image: Tensor, image: Tensor) -> Tensor:
        brightness = torch.cat([first_image, image]).float().mean() / 255
        return brightness * (self.gain.exp() * 2.0 + 1.0)


class _WeighedScore(nn.Module):
    def __init__(self, network: WeighedNetwork) -> None:
        super().__init__()
        self.out = network.out

    def forward(self, features, pose, hand_eye_map, actions) -> Tensor:
        weight = self.out.weight / self.out.weight.norm()
        shift = features.sum() + hand_eye_map.sum() + pose.sum()
        return torch.sigmoid((actions @ weight.T)[:, 0] + self.out.bias + shift)


@pytest.fixture(scope="module")
def builders() -> Iterator[dict[str, ReleaseBuilder]]:
    threads = torch.get_num_threads()
    # The tensors are tiny: more threads only wait for one another.
    torch.set_num_threads(1)
    networks = {name: build_network(name, height_px=SIZE_PX, width_px=SIZE_PX) for name in NETWORKS}
    networks["weighed"] = WeighedNetwork()
    yield {name: ReleaseBuilder(network) for name, network in networks.items()}
    torch.set_num_threads(threads)


def fresh(name: str, seed: int) -> GraspNetwork:
    """Return a network with weights, and batch statistics, unlike those it was exported with."""
    torch.manual_seed(seed)
    if name == "weighed":
        network: GraspNetwork = WeighedNetwork()
    else:
        network = build_network(name, height_px=SIZE_PX, width_px=SIZE_PX)
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if key.endswith("running_var"):
                tensor.mul_(1 + 0.2 * torch.rand_like(tensor))
            elif tensor.is_floating_point():
                tensor.add_(0.02 * torch.randn_like(tensor))
        for parameter in network.parameters():
            # What a release can hold exactly.
            parameter.copy_(parameter.bfloat16())
    return network.eval()


def build(builder: ReleaseBuilder, network: GraspNetwork, **changes: object) -> bytes:
    state = network.state_dict() | changes.pop("state", {})
    manifest = make_manifest(size_px=network.height_px, **changes)
    return builder.build(state, manifest, SIGNING_KEY)


def load(data: bytes, hand_eye_map: Tensor) -> QFunction:
    release = unpack_release(data, SIGNING_KEY.public_key())
    calibration = HandEyeMap(matrix=hand_eye_map.numpy())
    return QFunction(release, robot_id="robot-1", calibration=calibration)


def robot_success(q_function: QFunction, inputs: dict[str, Tensor]) -> np.ndarray:
    features = q_function.encode(inputs["first_image"][0].numpy(), inputs["image"][0].numpy())
    x, y, z, yaw = inputs["pose"].tolist()
    pose = GripperPose(x_m=x, y_m=y, z_m=z, yaw_rad=yaw)
    return q_function.score(features, pose, inputs["actions"].numpy())


def torch_success(network: GraspNetwork, inputs: dict[str, Tensor]) -> np.ndarray:
    with torch.inference_mode():
        features = network.encode_graph().eval()(inputs["first_image"], inputs["image"])
        score = network.score_graph().eval()
        names = ("pose", "hand_eye_map", "actions")
        return score(features, *(inputs[name] for name in names)).numpy()


@pytest.mark.parametrize("name", [*NETWORKS, "weighed"])
def test_a_release_predicts_on_the_robot_what_its_weights_predict_in_torch(
    builders: dict[str, ReleaseBuilder], name: str
):
    example = fresh(name, 0)
    several = [example.example_inputs(candidates) for candidates in (1, 64, 65)]
    results = []
    for seed in (1, 2):
        network = fresh(name, seed)
        q_function = load(build(builders[name], network), several[0]["hand_eye_map"])
        for inputs in several:
            found = robot_success(q_function, inputs)
            np.testing.assert_allclose(found, torch_success(network, inputs), atol=1e-3)
        results.append(found)
    assert np.abs(results[0] - results[1]).max() > 5e-3


def test_the_hand_eye_map_stays_an_input(builders: dict[str, ReleaseBuilder]):
    data = build(builders["patch"], fresh("patch", 1))
    inputs = fresh("patch", 1).example_inputs(64)
    one, other = inputs["hand_eye_map"], inputs["hand_eye_map"] + torch.eye(3, 4) * 0.1

    difference = robot_success(load(data, one), inputs) - robot_success(load(data, other), inputs)

    assert np.abs(difference).max() > 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graphs_carry_the_weights_and_little_else(
    builders: dict[str, ReleaseBuilder], name: str
):
    network = fresh(name, 1)
    data = build(builders[name], network)
    trained = sum(parameter.numel() for parameter in network.parameters())
    others = sum(buffer.numel() for buffer in network.buffers())
    assert len(data) < 2 * trained + 4 * others + 50_000
    release = unpack_release(data, SIGNING_KEY.public_key())
    for graph in (release.encode_graph, release.score_graph):
        model = onnx.load_from_string(graph)
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"head.out.bias": None}, "head.out.bias"),
        ({"head.more": torch.zeros(1)}, "head.more"),
        ({"head.out.bias": torch.zeros(2)}, "head.out.bias"),
        ({"head.out.bias": torch.tensor([float("nan")])}, "1 of 1 values of 'head.out.bias'"),
        ({"head.out.bias": torch.tensor([float("inf")])}, "1 of 1 values of 'head.out.bias'"),
    ],
    ids=["missing", "unknown", "another shape", "NaN", "infinite"],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    builders: dict[str, ReleaseBuilder], change: dict[str, Tensor | None], reason: str
):
    state = {**fresh("patch", 1).state_dict(), **change}
    state = {key: tensor for key, tensor in state.items() if tensor is not None}
    with pytest.raises(RejectedReleaseError, match=reason):
        builders["patch"].build(state, make_manifest(size_px=SIZE_PX), SIGNING_KEY)


def test_a_refused_set_of_weights_leaves_the_builder_usable(builders: dict[str, ReleaseBuilder]):
    network = fresh("patch", 1)
    with pytest.raises(RejectedReleaseError):
        build(builders["patch"], network, state={"head.out.bias": torch.tensor([float("nan")])})
    assert build(builders["patch"], network)


def test_weights_in_half_precision_are_released_in_full(builders: dict[str, ReleaseBuilder]):
    network = fresh("patch", 1).bfloat16()
    data = build(builders["patch"], network)
    inputs = fresh("patch", 1).example_inputs(8)
    expected = torch_success(network.float(), inputs)
    q_function = load(data, inputs["hand_eye_map"])
    np.testing.assert_allclose(robot_success(q_function, inputs), expected, atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_trained_is_released_in_bfloat16_and_read_back_as_robots_have_it(
    builders: dict[str, ReleaseBuilder], name: str
):
    network = fresh(name, 1)
    exact = network.state_dict()
    trained = {key for key, _ in network.named_parameters()}
    between = {key: exact[key] * (1 + 2**-12) for key in trained}
    release = unpack_release(
        build(builders[name], network, state=between), SIGNING_KEY.public_key()
    )
    found = builders[name].weights_of(release)
    assert trained <= found.keys()
    for key, tensor in found.items():
        assert tensor.dtype == exact[key].dtype
        torch.testing.assert_close(tensor, exact[key], rtol=0, atol=0)


def test_a_manifest_of_another_image_size_is_refused(builders: dict[str, ReleaseBuilder]):
    with pytest.raises(RejectedReleaseError, match=r"images of \(32, 33\)"):
        build(builders["patch"], fresh("patch", 1), image_width_px=SIZE_PX + 1)


class ForgetfulNetwork(WeighedNetwork):
    """Trains a weight that its graphs never use."""

    def __init__(self) -> None:
        super().__init__()
        self.forgotten = nn.Parameter(torch.zeros(3))


def test_a_network_whose_graphs_leave_out_a_weight_is_refused():
    with pytest.raises(RejectedReleaseError, match=r"do not use \['forgotten'\]"):
        ReleaseBuilder(ForgetfulNetwork())


class _FrozenScore(_WeighedScore):
    """Looks right, but multiplies by a copy of a weight."""

    def __init__(self, network: WeighedNetwork) -> None:
        super().__init__(network)
        self.copied = nn.Parameter(network.out.weight.clone())

    def forward(self, features, pose, hand_eye_map, actions) -> Tensor:
        return super().forward(features, pose, hand_eye_map, actions * self.copied[0])


class CopyingNetwork(WeighedNetwork):
    def score_graph(self) -> nn.Module:
        return _FrozenScore(self)


def test_a_graph_with_a_weight_of_its_own_is_refused():
    with pytest.raises(RejectedReleaseError, match=r"holds \['copied'\]"):
        ReleaseBuilder(CopyingNetwork())


def test_graphs_that_another_process_exported_give_the_same_release(
    builders: dict[str, ReleaseBuilder],
):
    export = ExportProcess("patch", height_px=SIZE_PX, width_px=SIZE_PX)
    network = fresh("patch", seed=5)
    there = ReleaseBuilder(network, export.graphs())
    assert export.is_over
    export.close()
    assert build(there, network) == build(builders["patch"], network)


def test_an_export_that_was_killed_says_so():
    export = ExportProcess("patch", height_px=SIZE_PX, width_px=SIZE_PX)
    export._process.kill()
    with pytest.raises(TransientError, match="ended with status -9: it said nothing"):
        export.graphs()
    export.close()


def test_an_export_that_failed_says_why():
    export = ExportProcess("no-such-network", height_px=SIZE_PX, width_px=SIZE_PX)
    with pytest.raises(TransientError, match=r"ended with status 1: KeyError: 'no-such-network'"):
        export.graphs()
    export.close()
