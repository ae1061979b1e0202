"""Exports a network as two ONNX graphs; takes seconds, and is done once per architecture.

The exporter's optimisation is off: it folds whatever depends on weights alone into new constants,
so that a replaced weight would silently change nothing. The graph is simplified here instead, with
its weights out of sight.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir
import torch
from onnx import TensorProto
from onnxscript import optimizer
from torch import nn

from learner.networks.base import GraspNetwork
from learner.releases.exported_graph import (
    ENCODE_INPUTS,
    SCORE_INPUTS,
    ExportedGraph,
    NetworkGraphs,
)
from protocol.errors import RejectedReleaseError


def export_network(network: GraspNetwork) -> NetworkGraphs:
    """Export both graphs of a network on the CPU, whatever its weights.

    Raises:
        RejectedReleaseError: a graph holds a weight that is not in the network's state.
    """
    encode, score = network.encode_graph().eval(), network.score_graph().eval()
    example = network.example_inputs()
    with torch.no_grad():
        example["features"] = encode(example["first_image"], example["image"])
    return NetworkGraphs(
        encode=_export_graph(
            encode,
            network,
            example=[example[name] for name in ENCODE_INPUTS],
            input_names=ENCODE_INPUTS,
            output_name="features",
        ),
        score=_export_graph(
            score,
            network,
            example=[example[name] for name in SCORE_INPUTS],
            input_names=SCORE_INPUTS,
            output_name="success",
            free_batch_of="actions",
        ),
    )


def _export_graph(
    part: nn.Module,
    network: nn.Module,
    *,
    example: Sequence[torch.Tensor],
    input_names: Sequence[str],
    output_name: str,
    free_batch_of: str | None = None,
) -> ExportedGraph:
    """Export ``part``, a module that shares the parameters of ``network``.

    Args:
        part: the module to export.
        network: owner of the state_dict that releases will be built from.
        example: one tensor per input of ``part.forward``.
        input_names: names of the graph's inputs, in the order of ``part.forward``.
        output_name: name of the graph's only output.
        free_batch_of: input whose first dimension may differ from the example's.

    Raises:
        RejectedReleaseError: the graph holds a weight that is not in the network's state.
    """
    free = torch.export.Dim("candidates", min=1)
    program = torch.onnx.export(
        part.eval(),
        # Clones: an example that appears twice would become one graph input used twice.
        tuple(tensor.clone() for tensor in example),
        dynamo=True,
        optimize=False,
        verbose=False,
        input_names=list(input_names),
        output_names=[output_name],
        dynamic_shapes=tuple({0: free} if name == free_batch_of else {} for name in input_names),
    )
    if program is None or program.exported_program is None:
        raise RejectedReleaseError(f"release: the exporter returned no graph of {output_name}")
    names = set(program.model.graph.initializers) - set(program.exported_program.constants)
    sources = _sources(names, part, network)
    model = _simplified(program.model)
    trained = {key for key, _ in network.named_parameters()}
    _halve(model.graph, {name for name, key in sources.items() if key in trained})
    _strip(model)
    kept = {tensor.name for tensor in model.graph.initializer}
    return ExportedGraph(model, {name: key for name, key in sources.items() if name in kept})


def _sources(names: set[str], part: nn.Module, network: nn.Module) -> dict[str, str]:
    """Map initialiser names to keys of the network's state, by identity of the tensors."""
    keys = {id(tensor): key for key, tensor in network.state_dict(keep_vars=True).items()}
    tensors: dict[str, torch.Tensor] = dict(part.named_parameters(remove_duplicate=False))
    tensors.update(part.named_buffers(remove_duplicate=False))
    sources = {name: keys.get(id(tensors.get(name)), "") for name in names}
    foreign = sorted(name for name, key in sources.items() if not key)
    if foreign:
        raise RejectedReleaseError(
            f"release: the exported graph holds {foreign}, which are neither in the network's"
            " state nor constants; they could not be replaced"
        )
    return sources


def _simplified(model: onnx_ir.Model) -> onnx.ModelProto:
    """Fold shapes and constants while the weights are inputs, which nothing can fold."""
    graph = model.graph
    weights = {value: value.const_value for value in graph.initializers.values()}
    for value in weights:
        del graph.initializers[str(value.name)]
        value.const_value = None
        graph.inputs.append(value)
    optimizer.optimize_ir(model)
    for value, tensor in weights.items():
        graph.inputs.remove(value)
        value.const_value = tensor
        # One that nothing reads any more (an unused buffer) is left out of the file.
        if value.uses():
            graph.register_initializer(value)
    return onnx_ir.to_proto(model)


def _halve(graph: onnx.GraphProto, trained: set[str]) -> None:
    """Make initialisers bfloat16, and cast them to float32 where the graph begins."""
    halved = [tensor for tensor in graph.initializer if tensor.name in trained]
    full = {tensor.name: f"{tensor.name}_float32" for tensor in halved}
    for tensor in halved:
        tensor.data_type = TensorProto.BFLOAT16
    for node in graph.node:
        inputs = [full.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(inputs)
    casts = [
        onnx.helper.make_node("Cast", [half], [single], to=TensorProto.FLOAT)
        for half, single in full.items()
    ]
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _strip(model: onnx.ModelProto) -> None:
    """Drop what only a debugger reads: stack traces, scopes, descriptions, inferred shapes."""
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    graph = model.graph
    graph.ClearField("value_info")
    for entry in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")
