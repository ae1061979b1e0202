from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.learner.releases.served_fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet whose servers and sockets are closed after the test."""
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()
