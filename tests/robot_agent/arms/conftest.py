from __future__ import annotations

from pathlib import Path

import pytest

from tests.robot_agent.arms.arm_on_shafts import ArmOnShafts, arm_on_shafts


@pytest.fixture
def rig(tmp_path: Path) -> ArmOnShafts:
    """An SO-101 over shafts in simulated time that has not moved yet."""
    return arm_on_shafts(tmp_path)
