"""One half of a network as an ONNX graph whose weights can be replaced.

Exporting takes seconds (see graph_export), replacing weights less than a millisecond. What is
trained is stored as bfloat16, and a Cast, which ONNX Runtime folds away when it loads the graph,
makes float32 of it: half the bytes. Buffers, such as grids and running means, stay exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import onnx
import torch
from onnx import TensorProto

from protocol.errors import RejectedReleaseError

ENCODE_INPUTS = ("first_image", "image")
SCORE_INPUTS = ("features", "pose", "hand_eye_map", "actions")


class ExportedGraph:
    """An exported module and the network's state that each of its initialisers comes from."""

    def __init__(self, model: onnx.ModelProto, sources: Mapping[str, str]) -> None:
        """Keep the graph and, by initialiser name, the network's state_dict key."""
        self._model = model
        self._sources = dict(sources)
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    @property
    def state_keys(self) -> frozenset[str]:
        """Keys of the network's state_dict that this graph uses."""
        return frozenset(self._sources.values())

    def with_weights(self, state: Mapping[str, torch.Tensor]) -> bytes:
        """Return the ONNX file with the weights of ``state``.

        Raises:
            RejectedReleaseError: a weight is missing or has another shape or type.
        """
        for name, key in self._sources.items():
            if key not in state:
                raise RejectedReleaseError(f"release: the weights lack {key!r}")
            _replace(self._tensors[name], key, state[key])
        data: bytes = self._model.SerializeToString()
        return data

    def weights_in(self, data: bytes) -> dict[str, torch.Tensor]:
        """Return, by state_dict key, the weights of an ONNX file that ``with_weights`` made."""
        found = {tensor.name: tensor for tensor in onnx.load_from_string(data).graph.initializer}
        return {key: _content(found[name]) for name, key in self._sources.items() if name in found}

    def packed(self) -> PackedGraph:
        """Return the graph with the weights that it has now."""
        return PackedGraph(model=self._model.SerializeToString(), sources=self._sources)

    @classmethod
    def unpacked(cls, packed: PackedGraph) -> ExportedGraph:
        """Return what was packed."""
        return cls(onnx.load_from_string(packed.model), packed.sources)


class PackedGraph(msgspec.Struct, frozen=True):
    """An ExportedGraph on its way from one process to another."""

    model: bytes
    sources: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkGraphs:
    """Both halves of one network."""

    encode: ExportedGraph
    score: ExportedGraph

    def packed(self) -> bytes:
        """Return both graphs as MessagePack."""
        return msgspec.msgpack.encode((self.encode.packed(), self.score.packed()))

    @classmethod
    def unpacked(cls, data: bytes) -> NetworkGraphs:
        """Return what was packed.

        Raises:
            msgspec.DecodeError: it is cut short, or something else.
        """
        encode, score = msgspec.msgpack.decode(data, type=tuple[PackedGraph, PackedGraph])
        return cls(encode=ExportedGraph.unpacked(encode), score=ExportedGraph.unpacked(score))


def _replace(target: TensorProto, key: str, tensor: torch.Tensor) -> None:
    tensor = tensor.detach().cpu()
    if list(tensor.shape) != list(target.dims):
        raise RejectedReleaseError(
            f"release: weight {key!r} has shape {list(tensor.shape)}, the graph {list(target.dims)}"
        )
    for other in ("float_data", "int32_data", "int64_data", "double_data"):
        target.ClearField(other)
    if target.data_type == TensorProto.BFLOAT16:
        # As words of 16 bits, because numpy has no bfloat16.
        target.raw_data = tensor.bfloat16().contiguous().view(torch.uint16).numpy().tobytes()
        return
    array = np.ascontiguousarray(tensor.numpy())
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    if kind != target.data_type:
        raise RejectedReleaseError(
            f"release: weight {key!r} is {array.dtype}, the graph expects"
            f" {onnx.helper.tensor_dtype_to_np_dtype(target.data_type)}"
        )
    target.raw_data = array.tobytes()


def _content(tensor: TensorProto) -> torch.Tensor:
    if tensor.data_type == TensorProto.BFLOAT16:
        halves = torch.frombuffer(bytearray(tensor.raw_data), dtype=torch.bfloat16)
        return halves.reshape(tuple(tensor.dims)).float()
    return torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
