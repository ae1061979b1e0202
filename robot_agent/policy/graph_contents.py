"""What an ONNX graph asks of whoever runs it, read without the onnx package.

A robot runs only standard operators on what the file itself holds. ONNX Runtime does not say
which operators a model uses or whether its weights lie in other files, and the onnx package costs
a robot more memory than the rest of the agent; but the file is protocol buffers, a short format:
https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator

from protocol.errors import RejectedReleaseError

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})

# Field numbers of onnx.proto
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 8
"""Of graphs within operators within graphs."""


def check_graph_contents(model: bytes, name: str) -> None:
    """Refuse a model that needs more than standard operators and its own bytes.

    Raises:
        RejectedReleaseError: it uses another operator domain, functions of its own, sparse or
            external weights, or is not an ONNX file at all.
    """
    graphs = 0
    for field, value in _fields(memoryview(model), name):
        if field == _MODEL_FUNCTIONS:
            raise RejectedReleaseError(f"{name} graph: defines functions; only operators are run")
        if field == _MODEL_GRAPH:
            graphs += 1
            _check_graph(_bytes_of(value, name), name, depth=0)
    if graphs != 1:
        raise RejectedReleaseError(f"{name} graph: the ONNX file holds {graphs} graphs")


def _check_graph(graph: memoryview, name: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise RejectedReleaseError(f"{name} graph: nested deeper than {_MAX_DEPTH}")
    for field, value in _fields(graph, name):
        if field == _GRAPH_NODE:
            _check_node(_bytes_of(value, name), name, depth)
        elif field == _GRAPH_INITIALIZER:
            _check_tensor(_bytes_of(value, name), name)
        elif field == _GRAPH_SPARSE:
            raise RejectedReleaseError(f"{name} graph: holds sparse weights")


def _check_node(node: memoryview, name: str, depth: int) -> None:
    domain, operator = "", "?"
    for field, value in _fields(node, name):
        if field == _NODE_DOMAIN:
            domain = bytes(_bytes_of(value, name)).decode("utf-8", "replace")
        elif field == _NODE_OP_TYPE:
            operator = bytes(_bytes_of(value, name)).decode("utf-8", "replace")
        elif field == _NODE_ATTRIBUTE:
            _check_attribute(_bytes_of(value, name), name, depth)
    if domain not in STANDARD_DOMAINS:
        raise RejectedReleaseError(
            f"{name} graph: operator {operator!r} is of domain {domain!r}; only standard ONNX"
            " operators are run"
        )


def _check_attribute(attribute: memoryview, name: str, depth: int) -> None:
    for field, value in _fields(attribute, name):
        if field in {_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS}:
            _check_tensor(_bytes_of(value, name), name)
        elif field in {_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS}:
            _check_graph(_bytes_of(value, name), name, depth + 1)


def _check_tensor(tensor: memoryview, name: str) -> None:
    for field, value in _fields(tensor, name):
        if field == _TENSOR_EXTERNAL_DATA or (field == _TENSOR_DATA_LOCATION and value != 0):
            raise RejectedReleaseError(f"{name} graph: weights lie in another file")


def _bytes_of(value: int | memoryview, name: str) -> memoryview:
    if isinstance(value, int):
        raise RejectedReleaseError(f"{name} graph: not an ONNX file")
    return value


def _fields(message: memoryview, name: str) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the field number and value of every field of one protocol buffer message."""
    position = 0
    try:
        while position < len(message):
            key, position = _varint(message, position)
            wire_type = key & 7
            if wire_type == _VARINT:
                value, position = _varint(message, position)
                yield key >> 3, value
                continue
            size = {_FIXED64: 8, _FIXED32: 4}.get(wire_type)
            if wire_type == _BYTES:
                size, position = _varint(message, position)
            if size is None or size > len(message) - position:
                raise RejectedReleaseError(f"{name} graph: not an ONNX file, or cut short")
            yield key >> 3, message[position : position + size]
            position += size
    except IndexError as error:
        raise RejectedReleaseError(f"{name} graph: not an ONNX file, or cut short") from error


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the number at ``position`` and where the next thing begins."""
    number = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise IndexError("a number longer than ten bytes")
