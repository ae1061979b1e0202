"""Values are written as people see them in Grafana."""

from __future__ import annotations

import math

import pytest

from fleet.dashboards.reading import filled_in
from fleet.dashboards.units import written


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "text"),
    [
        (0.8251, "percentunit", 0, "83%"),
        (0.0042, "s", None, "4.2 ms"),
        (90.0, "s", 0, "1.5 min"),
        (0.0, "s", 0, "0 s"),
        (3 * 2**30, "bytes", None, "3 GiB"),
        (0.0, "bytes", None, "0 B"),
        (16_500.0, "Bps", None, "16.5 kB/s"),
        (12_300.0, "short", 0, "12.3 K"),
        (7.0, "short", 0, "7"),
        (-0.0031, "lengthm", None, "-3.1 mm"),
        (1.0, "bool_yes_no", 0, "Yes"),
        (0.0, "bool_yes_no", 0, "No"),
        (41.25, "celsius", 1, "41.2 °C"),
        (math.nan, "percentunit", 0, "-"),
    ],
)
def test_a_value_is_written_with_its_unit(value: float, unit: str, decimals: int | None, text: str):
    assert written(value, unit, decimals) == text


def test_a_unit_that_no_panel_uses_is_an_error_and_not_a_guess():
    with pytest.raises(KeyError):
        written(1.0, "furlongs")


def test_variables_are_filled_in_in_both_spellings():
    expr = 'rate(a{robot="$robot", w="${window}"}[$__rate_interval])'
    values = {"robot": "arm-1", "window": "1h", "__rate_interval": "1m"}
    assert filled_in(expr, values) == 'rate(a{robot="arm-1", w="1h"}[1m])'


def test_a_variable_without_a_value_is_an_error_and_not_left_out():
    with pytest.raises(KeyError):
        filled_in("a[$window]", {})
