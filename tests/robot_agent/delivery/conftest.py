from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """An empty outbox without a limit that matters, in the test's own folder."""
    outbox = Outbox(tmp_path, OutboxConfig())
    yield outbox
    outbox.close()
