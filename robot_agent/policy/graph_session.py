"""One graph of a release in ONNX Runtime, checked against its agreed signature."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from protocol.errors import RejectedReleaseError
from protocol.onnx_runtime import onnxruntime
from robot_agent.policy.graph_contents import check_graph_contents

runtime = onnxruntime.capi.onnxruntime_pybind11_state

UINT8, FLOAT32 = "tensor(uint8)", "tensor(float)"

_RUNTIME_ERRORS = (
    runtime.EPFail,
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NotImplemented,
    runtime.RuntimeException,
    # Its bindings pass names and messages on as text, also where the file holds other bytes.
    UnicodeDecodeError,
)


class GraphSession:
    """A loaded graph with known inputs and one float output."""

    def __init__(self, name: str, model: bytes, inputs: Mapping[str, str], output: str) -> None:
        """Load a graph.

        Args:
            name: what errors call the graph.
            model: ONNX file.
            inputs: element type by name. A graph may lack inputs that its network does not read.
            output: name of the only output, float32.

        Raises:
            RejectedReleaseError: it cannot be loaded, needs more than standard operators, or has
                other inputs or outputs.
        """
        check_graph_contents(model, name)
        self._name = name
        try:
            # Without the fallback it would print, and try the same once more.
            self._session = onnxruntime.InferenceSession(
                model, _options(), providers=["CPUExecutionProvider"], enable_fallback=False
            )
            found = {entry.name: entry.type for entry in self._session.get_inputs()}
            outputs = {entry.name: entry.type for entry in self._session.get_outputs()}
        except _RUNTIME_ERRORS as error:
            raise RejectedReleaseError(f"{name} graph: cannot be loaded: {error}") from error
        unknown = {key: kind for key, kind in found.items() if inputs.get(key) != kind}
        if unknown:
            raise RejectedReleaseError(
                f"{name} graph: inputs {unknown} are not among the agreed {dict(inputs)}"
            )
        if outputs != {output: FLOAT32}:
            raise RejectedReleaseError(
                f"{name} graph: outputs {outputs}, agreed is {output} of {FLOAT32}"
            )
        self._inputs = tuple(found)
        self._outputs = [output]

    def run(self, **feeds: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return the output; feeds that the graph lacks are ignored.

        Raises:
            RejectedReleaseError: the graph cannot take these shapes.
        """
        try:
            values = self._session.run(self._outputs, {key: feeds[key] for key in self._inputs})
        except _RUNTIME_ERRORS as error:
            raise RejectedReleaseError(f"{self._name} graph: cannot be run: {error}") from error
        result: NDArray[np.float32] = values[0]
        return result


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    # One core is the robot's whole budget; threads that spin would take it from the camera.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
