"""What a soak calls growth."""

from __future__ import annotations

import numpy as np
import pytest

from tests.soak.sample import Row
from tests.soak.slope import slope_of
from tests.soak.verdict import LIMITS, complaints, settled, slopes_of

TIMES_S = [10.0 * step for step in range(180)]


def rows_of(per_hour: float) -> list[Row]:
    """Half an hour of every limited figure growing at this rate, with a little noise."""
    noise = np.random.default_rng(0).normal(size=len(TIMES_S))
    return [
        {"at_s": at_s, **dict.fromkeys(LIMITS, 100 + per_hour * at_s / 3600 + float(wobble))}
        for at_s, wobble in zip(TIMES_S, noise, strict=True)
    ]


def test_the_interval_holds_the_slope_that_is_there():
    random = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        slope = slope_of(TIMES_S, 7 * np.array(TIMES_S) / 3600 + random.normal(size=len(TIMES_S)))
        held += slope.low < 7 < slope.high
    assert 180 <= held <= 199


def test_a_line_without_noise_has_its_own_slope():
    slope = slope_of([0, 1800, 3600], [1.0, 2.0, 3.0])
    assert (slope.per_hour, slope.low, slope.high) == pytest.approx((2.0, 2.0, 2.0))


def test_two_samples_are_no_slope():
    with pytest.raises(ValueError, match="needs three"):
        slope_of([0, 1], [0, 1])


def test_what_stays_as_it_is_is_no_growth():
    assert complaints(slopes_of(rows_of(0.0))) == []


def test_every_figure_that_grows_beyond_its_limit_is_named():
    found = complaints(slopes_of(rows_of(1000.0)))
    assert [line.split(" ")[0] for line in found] == list(LIMITS)


def test_the_warm_up_does_not_count():
    rows = rows_of(0.0)
    for row in rows[:30]:
        row["gateway_own_mb"] = 0.0
    assert complaints(slopes_of(settled(rows))) == []
    assert complaints(slopes_of(rows)) != []


def test_a_figure_that_was_not_there_for_a_while_is_left_out_for_that_while():
    rows = rows_of(3.0)
    rows[50]["agents_own_mb"] = float("nan")
    assert slopes_of(rows)["agents_own_mb"].per_hour == pytest.approx(3.0, abs=2.0)
