"""Releases for tests: real ONNX graphs, too small to need a network or an exporter."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import zmq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper, numpy_helper

from protocol.hand_eye import HandEyeMap, pinhole_map
from protocol.key_files import write_over
from protocol.registry import Registry
from protocol.release import pack_release
from protocol.release_manifest import CollectionSettings, ReleaseManifest, SearchSettings
from protocol.security import CurveKeys, curve_secret_line

SIZE_PX = 8
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(b"a key for tests, known to all.. ")
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"another key, known to all too.. ")
CALIBRATION = pinhole_map(
    position_m=(-0.34, -0.10, 0.46), look_at_m=(0.0, 0.0, 0.028), vertical_fov_deg=31.0
)


def make_manifest(version: int = 1, size_px: int = SIZE_PX, **changes: object) -> ReleaseManifest:
    manifest = ReleaseManifest(
        version=version,
        parent=version - 1,
        created_at_ns=1_700_000_000_000_000_000,
        network="tiny",
        image_height_px=size_px,
        image_width_px=size_px,
        encode_bytes=1,
        score_bytes=1,
        search=SearchSettings(),
        collection=CollectionSettings(),
        hand_eye_maps={},
        metrics={},
        software={},
    )
    return msgspec.structs.replace(manifest, **changes)


def make_release(
    version: int = 1,
    *,
    key: Ed25519PrivateKey = SIGNING_KEY,
    bias: float = 0.1,
    padding_bytes: int = 0,
    **changes: object,
) -> bytes:
    """Return a release file; ``padding_bytes`` of noise make it as large as a real one.

    The noise is another one in every version: no packing makes it smaller.
    """
    manifest = make_manifest(version, **changes)
    score = make_score_graph(bias, np.random.default_rng(version).bytes(padding_bytes))
    return pack_release(manifest, make_encode_graph(), score, key)


def make_similar_release(version: int, weights: bytes, **changes: object) -> bytes:
    """Return a release that a packing makes smaller, the more ``weights`` are like its base's."""
    manifest = make_manifest(version, **changes)
    return pack_release(manifest, make_encode_graph(), make_score_graph(0.1, weights), SIGNING_KEY)


def make_encode_graph(size_px: int = SIZE_PX) -> bytes:
    """features[1, 2]: mean brightness of both pictures."""
    shape = [1, size_px, size_px, 3]
    nodes = [
        helper.make_node("Cast", ["first_image"], ["first"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["image"], ["now"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["first", "now"], ["both"], axis=0),
        helper.make_node("ReduceMean", ["both", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "zero"], ["features"]),
    ]
    return _model(
        nodes,
        inputs={"first_image": (TensorProto.UINT8, shape), "image": (TensorProto.UINT8, shape)},
        outputs={"features": (TensorProto.FLOAT, [1, 2])},
        weights={"axes": np.array([1, 2, 3]), "zero": np.array([0])},
    )


def make_score_graph(bias: float = 0.1, padding: bytes = b"") -> bytes:
    """success[N]: sigmoid of bias + sum of the action + x of the pose + last value of the map."""
    nodes = [
        helper.make_node("ReduceSum", ["actions", "one"], ["sum"], keepdims=0),
        helper.make_node("Slice", ["pose", "zero", "one"], ["x"]),
        helper.make_node("Flatten", ["hand_eye_map"], ["flat"], axis=0),
        helper.make_node("Slice", ["flat", "eleven", "twelve", "one"], ["last"]),
        helper.make_node("Squeeze", ["last", "zero"], ["corner"]),
        helper.make_node("Add", ["sum", "x"], ["a"]),
        helper.make_node("Add", ["a", "corner"], ["b"]),
        helper.make_node("Add", ["b", "bias"], ["c"]),
        helper.make_node("ReduceSum", ["features"], ["brightness"], keepdims=0),
        helper.make_node("Mul", ["brightness", "faint"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["success"]),
    ]
    return _model(
        nodes,
        inputs={
            "features": (TensorProto.FLOAT, [1, 2]),
            "pose": (TensorProto.FLOAT, [4]),
            "hand_eye_map": (TensorProto.FLOAT, [3, 4]),
            "actions": (TensorProto.FLOAT, ["candidates", 5]),
        },
        outputs={"success": (TensorProto.FLOAT, ["candidates"])},
        weights={
            "bias": np.array([bias], np.float32),
            "faint": np.array(1e-4, np.float32),
            "zero": np.array([0]),
            "one": np.array([1]),
            "eleven": np.array([11]),
            "twelve": np.array([12]),
            "padding": np.frombuffer(padding, np.uint8),
        },
    )


def _model(
    nodes: list[onnx.NodeProto],
    *,
    inputs: dict[str, tuple[int, list[int | str]]],
    outputs: dict[str, tuple[int, list[int | str]]],
    weights: dict[str, np.ndarray],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make_curve_keys() -> CurveKeys:
    public, secret = zmq.curve_keypair()
    return CurveKeys(public=public, secret=secret)


def write_secret(path: Path, keys: CurveKeys) -> Path:
    """Write a key file of ``keys``, for a server that reads it; return its path."""
    write_over(path, curve_secret_line(keys.secret), mode=0o600)
    return path


def enrol(registry_folder: Path, name: str, keys: CurveKeys) -> Registry:
    registry = Registry(registry_folder)
    registry.enrol(name, keys.public.decode("ascii"))
    return registry


def refined_map(calibration: HandEyeMap = CALIBRATION, shift: float = 0.5) -> HandEyeMap:
    matrix = calibration.matrix.copy()
    matrix[2, 3] += shift
    return HandEyeMap(matrix=matrix)
