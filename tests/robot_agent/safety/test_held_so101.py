"""An SO-101 in the middle of a motion, in real time: what its servos are told at the end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.robot_agent.robots.emulated_arms import EmulatedArm, emulated_so101
from tests.robot_agent.safety.moving_arm import agent_of
from tests.robot_agent.safety.test_guard import why_stopped
from tests.waiting import PATIENCE_S, wait_until

SO101 = "robot_agent.robots.so101:SO101"


def moves(arm: EmulatedArm) -> bool:
    """Say whether a motor is on its way, far from its goal."""
    return np.abs([shaft.velocity_rad_s for shaft in arm.mechanics.shafts.values()]).max() > 0.2


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGSTOP, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
def test_an_so101_holds_where_it_is_with_limited_torque(tmp_path: Path, number: signal.Signals):
    with (
        emulated_so101(tmp_path, is_real_time=True) as arm,
        agent_of(tmp_path, stall_s=5.0, driver=SO101, reply_timeout_s=1.0) as agent,
    ):
        wait_until(lambda: moves(arm), "the arm is in a motion")
        os.kill(agent.pid, number)
        wait_until(arm.is_held, "the arm is held")
        held_rad = arm.positions_rad
        agent.wait(PATIENCE_S)
        wait_until(lambda: why_stopped(tmp_path) != "", "the stop is kept")
        assert arm.is_held()
        np.testing.assert_allclose(arm.positions_rad, held_rad, atol=0.01)
