"""Turns trained weights into a signed release that a robot can run.

The graphs are exported once per architecture. Each release replaces their weights, rounded to
bfloat16, runs in ONNX Runtime on random inputs against torch, and only then is signed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from torch.nn import functional

from learner.networks.base import GraspNetwork
from learner.releases.exported_graph import ENCODE_INPUTS, SCORE_INPUTS, NetworkGraphs
from protocol.errors import RejectedReleaseError
from protocol.onnx_runtime import onnxruntime
from protocol.release import Release, pack_release
from protocol.release_manifest import ReleaseManifest

MAX_DIFFERENCE = 1e-3
"""Largest difference in success probability between ONNX Runtime and torch. Rounding alone is
three orders below; but where it moves a sampling point to the next cell, the score jumps."""
_COMPARED_CANDIDATES = 16


class ReleaseBuilder:
    """Builds releases of one network architecture."""

    def __init__(self, network: GraspNetwork, graphs: NetworkGraphs | None = None) -> None:
        """Take the graphs of this architecture, or export them, which takes seconds.

        Args:
            network: of the architecture; its weights do not matter.
            graphs: what ``export_network`` returned, in this process or another.

        Raises:
            RejectedReleaseError: part of the network's state is in neither graph.
        """
        self._network = copy.deepcopy(network).cpu().eval().requires_grad_(requires_grad=False)
        self._modules = self._network.encode_graph().eval(), self._network.score_graph().eval()
        graphs = graphs or _exported(self._network)
        self._encode, self._score = graphs.encode, graphs.score
        _refuse_unused_state(self._network, self._encode.state_keys | self._score.state_keys)

    def build(
        self,
        state: Mapping[str, torch.Tensor],
        manifest: ReleaseManifest,
        signing_key: Ed25519PrivateKey,
    ) -> bytes:
        """Return the release file for the weights ``state``; the manifest's sizes are filled in.

        Args:
            state: the whole state_dict of the network, on any device, in any float type.
            manifest: version, settings and maps of the release.
            signing_key: its public half is what robots verify the release with.

        Raises:
            RejectedReleaseError: a name or shape does not match in either direction, a weight is
                NaN or infinite, the manifest is of another image size, or ONNX Runtime and torch
                disagree.
        """
        size = (manifest.image_height_px, manifest.image_width_px)
        expected = (self._network.height_px, self._network.width_px)
        if size != expected:
            raise RejectedReleaseError(
                f"release {manifest.version}: the manifest says images of {size}, but the graphs"
                f" were exported for {expected} (height, width)"
            )
        self._load(state)
        weights = self._network.state_dict()
        encode, score = self._encode.with_weights(weights), self._score.with_weights(weights)
        self._compare_with_torch(encode, score)
        return pack_release(manifest, encode, score, signing_key)

    def weights_of(self, release: Release) -> dict[str, torch.Tensor]:
        """Return the weights of a release of this architecture, by key of the state_dict."""
        encode = self._encode.weights_in(release.encode_graph)
        return encode | self._score.weights_in(release.score_graph)

    def _load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load the weights as the release will hold them: what is trained in bfloat16."""
        trained = dict(self._network.named_parameters())
        rounded = {
            key: tensor.bfloat16().float() if key in trained else tensor
            for key, tensor in state.items()
        }
        for key, tensor in rounded.items():
            bad = int((~torch.isfinite(tensor)).sum())
            if bad:
                raise RejectedReleaseError(
                    f"release: {bad} of {tensor.numel()} values of {key!r} are NaN or infinite"
                )
        try:
            self._network.load_state_dict(rounded, strict=True)
        except RuntimeError as error:
            raise RejectedReleaseError(f"release: {error}") from error

    def _compare_with_torch(self, encode: bytes, score: bytes) -> None:
        inputs = _random_inputs(self._network)
        with torch.inference_mode():
            features = self._modules[0](*(inputs[name] for name in ENCODE_INPUTS))
            score_inputs = {**inputs, "features": features}
            expected = self._modules[1](*(score_inputs[name] for name in SCORE_INPUTS)).numpy()
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        success = _run(score, {**arrays, "features": _run(encode, arrays)})
        if success.shape != expected.shape:
            raise RejectedReleaseError(
                f"release: scores have shape {success.shape}, the actions {expected.shape}"
            )
        difference = float(np.abs(success - expected).max())
        if not difference <= MAX_DIFFERENCE:  # NaN is refused as well
            raise RejectedReleaseError(
                f"release: ONNX Runtime and torch differ by {difference:.2e} in success;"
                f" the limit is {MAX_DIFFERENCE:.0e}"
            )


def _exported(network: GraspNetwork) -> NetworkGraphs:
    # The exporter loads for seconds, and a trainer has a process of its own for it.
    from learner.releases.graph_export import export_network

    return export_network(network)


def _refuse_unused_state(network: GraspNetwork, used: frozenset[str]) -> None:
    # Batch normalisation counts its batches for training only.
    counted = {key for key in network.state_dict() if key.endswith("num_batches_tracked")}
    unused = network.state_dict().keys() - used - counted
    if unused:
        raise RejectedReleaseError(
            f"release: the exported graphs do not use {sorted(unused)} of the network's state"
        )


def _random_inputs(network: GraspNetwork) -> dict[str, torch.Tensor]:
    """Return plausible inputs that differ from those of the export in every element."""
    inputs = network.example_inputs(_COMPARED_CANDIDATES)
    for name in ENCODE_INPUTS:
        # Smooth like a photograph: white noise would make most of the smallest displacement.
        coarse = torch.rand(1, 3, 8, 8) * 255.0
        size = (network.height_px, network.width_px)
        smooth = functional.interpolate(coarse, size, mode="bilinear")
        inputs[name] = smooth.permute(0, 2, 3, 1).to(torch.uint8)
    inputs["pose"] = inputs["pose"] + 0.02 * torch.randn(4)
    inputs["hand_eye_map"] = inputs["hand_eye_map"] * (1 + 0.05 * torch.randn(3, 4))
    return inputs


def _run(model: bytes, arrays: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {entry.name: arrays[entry.name] for entry in session.get_inputs()}
    return np.asarray(session.run(None, feeds)[0], np.float32)
