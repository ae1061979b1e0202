"""Whoever reads what a command prints may stop reading: `robot-agent check ... | head -1`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.delivery_site import ROOT
from tests.robot_agent.agent_process import command, make_table, write_toml
from tests.waiting import PATIENCE_S


@pytest.mark.parametrize("arguments", [("run", "--dry-run"), ("check",)])
def test_whoever_stops_reading_sees_no_traceback(tmp_path: Path, arguments: tuple[str, ...]):
    toml = write_toml(tmp_path, make_table(tmp_path))
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        ended = subprocess.run(
            command(*arguments, "--config", toml),
            cwd=ROOT,
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    finally:
        os.close(write_end)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "BrokenPipe" not in ended.stderr
