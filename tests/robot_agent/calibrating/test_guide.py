"""What asks a person, or nobody, while a robot is calibrated."""

from __future__ import annotations

import math

import pytest

from protocol.errors import ConfigurationError
from robot_agent.calibrating.guide import Guide


@pytest.mark.parametrize("record_s", [-1.0, -1e-9, math.inf, -math.inf, math.nan])
def test_what_is_no_length_of_time_is_refused_before_anything_goes_limp(record_s: float):
    with pytest.raises(ConfigurationError, match=r"--record-seconds .*: 0 waits for a person"):
        Guide(record_s)
