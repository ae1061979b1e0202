"""What a run folder says of its run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from learner.offline import default_config
from learner.provenance import write_run_record
from protocol.errors import ConfigurationError


def test_the_record_of_a_run_is_replaced_as_a_whole(tmp_path: Path):
    config = default_config(tmp_path / "run")
    write_run_record(config)
    with (tmp_path / "run" / "run.json").open("rb") as earlier:
        write_run_record(replace(config, seed=7))
        # Whoever reads it, and the disk after a power cut, has the one or the other.
        assert msgspec.json.decode(earlier.read())["config"]["seed"] == 0
    now = msgspec.json.decode((tmp_path / "run" / "run.json").read_bytes())
    assert now["config"]["seed"] == 7
    assert now["software"]["torch"]


def test_a_run_folder_that_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "run").write_bytes(b"a file")
    with pytest.raises(ConfigurationError, match="cannot be written: "):
        write_run_record(default_config(tmp_path / "run"))
