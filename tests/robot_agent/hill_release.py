"""Releases whose Q-function is known: one hill over final positions, and two that go wrong."""

from __future__ import annotations

import onnx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.hand_eye import HandEyeMap
from protocol.release import pack_release, unpack_release
from protocol.release_manifest import SearchSettings
from robot_agent.policy.q_function import QFunction
from tests.releases import CALIBRATION, SIGNING_KEY, make_encode_graph, make_manifest

SIDE_PX = 64

_HILL = """
<ir_version: 10, opset_import: ["": 20]>
hill (float[4] pose, float[candidates, 5] actions) => (float[candidates] success)
<int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] three = {{3}},
 float[3] top = {{{x}, {y}, {z}}}, float steepness = {{{steepness}}}, float peak = {{{peak}}},
 float height_limit = {{0.08}}, float hundred = {{100}},
 float[8] table = {{1, 1, 1, 1, 1, 1, 1, 1}}>
{{
    here = Slice(pose, zero, three)
    shift = Slice(actions, zero, three, one)
    final = Add(here, shift)
    off = Sub(final, top)
    square = Mul(off, off)
    distance = ReduceSum<keepdims = 0>(square, one)
    fall = Mul(distance, steepness)
    exponent = Neg(fall)
    hill = Exp(exponent)
    height = Slice(pose, two, three)
    {spoil}
    scaled = Mul(hill, spoil)
    success = Mul(scaled, peak)
}}
"""
_SPOILS = {
    "": "spoil = Slice(table, zero, one)",
    # NaN above 8 cm, where every attempt starts; a release is tried at 5 cm.
    "nan-above-8-cm": "margin = Sub(height_limit, height)\n    spoil = Sqrt(margin)",
    # Reads beyond the end of its table there.
    "error-above-8-cm": (
        "centimetres = Mul(height, hundred)\n"
        "    index = Cast<to = 7>(centimetres)\n"
        "    spoil = Gather(table, index)"
    ),
}


def hill_q_function(
    top: tuple[float, float, float] = (0.05, 0.03, 0.02),
    *,
    peak: float = 0.8,
    steepness: float = 500.0,
    spoil: str = "",
    calibration: HandEyeMap = CALIBRATION,
    **search: float,
) -> QFunction:
    """Return success = peak * exp(-steepness * squared distance to ``top`` in metres)."""
    data = hill_release(top, peak=peak, steepness=steepness, spoil=spoil, **search)
    release = unpack_release(data, SIGNING_KEY.public_key())
    return QFunction(release, robot_id="robot-1", calibration=calibration)


def hill_release(
    top: tuple[float, float, float] = (0.05, 0.03, 0.02),
    *,
    peak: float = 0.8,
    steepness: float = 500.0,
    spoil: str = "",
    key: Ed25519PrivateKey = SIGNING_KEY,
    **search: float,
) -> bytes:
    """Return the file of such a release."""
    x, y, z = top
    text = _HILL.format(x=x, y=y, z=z, steepness=steepness, peak=peak, spoil=_SPOILS[spoil])
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    return pack_release(
        make_manifest(size_px=SIDE_PX, search=SearchSettings(**search)),
        make_encode_graph(SIDE_PX),
        model.SerializeToString(),
        key,
    )
