"""A G-code arm's bench, for what is tested of that arm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.robot_agent.robots.gcode_bench import Bench, marlin_bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    with bench.line:
        yield bench


@pytest.fixture(params=["uarm-4", "uarm-3"])
def each_uarm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, request.param)
    with bench.line:
        yield bench


@pytest.fixture
def marlin(tmp_path: Path) -> Iterator[Bench]:
    with marlin_bench(tmp_path) as bench:
        yield bench
