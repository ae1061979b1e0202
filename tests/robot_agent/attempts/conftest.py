from __future__ import annotations

from pathlib import Path

import pytest

from tests.robot_agent.simulated_agent import Site, make_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A simulated robot before its first attempt."""
    return make_site(tmp_path, {"seed": 1})
