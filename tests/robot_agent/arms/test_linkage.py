import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_agent.arms.linkage import HingedJaw, Linkage
from robot_agent.robots.dynamixel_x import LINKAGE as CRANK

LINKAGES = {"hinge": (HingedJaw(length_m=0.08), 0.12), "crank": (CRANK, 0.044)}


@pytest.mark.parametrize("name", LINKAGES)
@given(share=st.floats(0.0, 1.0))
def test_turn_and_opening_are_each_others_inverse(name: str, share: float):
    linkage, widest_m = LINKAGES[name]
    turn_rad = linkage.turn_rad(share * widest_m)
    assert linkage.opening_m(turn_rad) == pytest.approx(share * widest_m, abs=1e-9)


@pytest.mark.parametrize("name", LINKAGES)
def test_a_closed_gripper_has_no_opening_and_turns_only_open_it_further(name: str):
    linkage: Linkage = LINKAGES[name][0]
    openings = [linkage.opening_m(turn_rad / 100) for turn_rad in range(150)]
    assert openings[0] == pytest.approx(0.0, abs=1e-12)
    assert all(less < more for less, more in pairwise(openings))


def test_a_hinged_jaw_at_a_sixth_of_a_turn_opens_by_its_own_length():
    assert HingedJaw(length_m=0.08).opening_m(math.pi / 3) == pytest.approx(0.08)


def test_a_horn_at_right_angles_pushes_its_finger_out_by_horn_and_rod():
    farthest_m = 2 * (CRANK.horn_m + CRANK.rod_m - CRANK.closed_m)
    straight_rad = CRANK.turn_rad(farthest_m)
    assert CRANK.opening_m(straight_rad) == pytest.approx(farthest_m)
    assert CRANK.turn_rad(1.0) == pytest.approx(straight_rad)
