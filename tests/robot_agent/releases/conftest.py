from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.release_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench whose servers and robots are closed after the test."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()
