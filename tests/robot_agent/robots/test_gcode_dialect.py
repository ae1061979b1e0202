"""What G-code controllers are told, and what is read from their answers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_agent.robots.gcode_dialect import DIALECTS, position_m
from robot_agent.serial_bus.line_format import Answer, LineKind


@given(st.floats(-999, 999), st.floats(-999, 999), st.floats(-999, 999))
def test_positions_of_both_styles_are_read(x: float, y: float, z: float):
    uarm = Answer(kind=LineKind.OK, text=f"X{x:.4f} Y{y:.4f} Z{z:.4f}")
    report = f"X:{x:.4f} Y:{y:.4f} Z:{z:.4f} E:0.00 Count X:0 Y:0 Z:0"
    marlin = Answer(kind=LineKind.OK, text="", notes=("echo:busy", report))
    expected = pytest.approx((x / 1000, y / 1000, z / 1000), abs=1e-6)
    assert position_m(uarm) == expected
    assert position_m(marlin) == expected


@given(st.text(max_size=60))
def test_any_answer_has_a_position_or_none(text: str):
    position = position_m(Answer(kind=LineKind.OK, text=text))
    assert position is None or all(math.isfinite(value) for value in position)


def test_every_dialect_writes_lines_that_fit_a_controllers_buffer():
    for dialect in DIALECTS.values():
        assert len(dialect.move((-319.99, -319.99, -149.99), 59_999.0)) < 60
