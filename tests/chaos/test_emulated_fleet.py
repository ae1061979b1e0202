"""What emulated robots need of the system, and what they say when they do not get it."""

from __future__ import annotations

import pytest

from tests.chaos.emulated_fleet import make_room_for


def test_a_fleet_for_which_there_are_too_few_descriptors_is_refused_in_words():
    with pytest.raises(SystemExit, match=r"descriptors, but this system allows \d+: raise"):
        make_room_for(10**8)
