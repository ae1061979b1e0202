"""Ray accepts the cluster files, and what they name is there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy/ray").glob("*.yaml"))
PLACES = {"ingestion", "training"}
THE_LABS_OWN = ("~", "lab/")
"""What a file mounts from the lab: not part of the repository."""


def read(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = yaml.safe_load(path.read_text())
    return table


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def table(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


def test_ray_accepts_it(table: dict[str, Any]):
    # As ``ray up`` does, before it asks a cloud for anything.
    validate_config(prepare_config(table))


def test_ray_would_refuse_a_misspelt_key(table: dict[str, Any]):
    with pytest.raises(Exception, match="head_start_ray_comands"):
        validate_config(prepare_config(table) | {"head_start_ray_comands": []})


def test_every_place_has_a_node(table: dict[str, Any]):
    types = table.get("available_node_types", {}).values()
    given = {name for one in types for name in one["resources"]}
    starts = table["head_start_ray_commands"] + table["worker_start_ray_commands"]
    given |= {name for start in starts for name in re.findall(r'"(\w+)": 1', start)}
    assert given >= PLACES


def test_what_it_mounts_from_the_checkout_is_there(table: dict[str, Any]):
    sources = [one for one in table["file_mounts"].values() if not one.startswith(THE_LABS_OWN)]
    assert sources
    assert [one for one in sources if not (ROOT / one).exists()] == []


def test_nodes_install_the_pinned_versions_of_what_the_learner_needs(table: dict[str, Any]):
    (install,) = (one for one in table["setup_commands"] if "pip install" in one)
    assert "--constraint constraints.txt" in install
    assert (ROOT / "constraints.txt").is_file()
    assert '".[fleet]"' in install


def test_every_node_asks_for_the_token(table: dict[str, Any]):
    for commands in (table["head_start_ray_commands"], table["worker_start_ray_commands"]):
        (start,) = (one for one in commands if "ray start" in one)
        assert "RAY_AUTH_MODE=token" in start
    assert "~/.ray/auth_token" in table["file_mounts"]


def test_the_learners_secrets_are_not_copied_with_the_source(table: dict[str, Any]):
    assert "/lab" in table["rsync_exclude"]
    assert "/runs" in table["rsync_exclude"]


@pytest.mark.parametrize(
    "before", ["", "case $- in *i*) ;; *) return;; esac\n"], ids=["empty", "as Debian has it"]
)
def test_the_path_is_set_once_and_for_every_command(
    table: dict[str, Any], tmp_path: Path, before: str
):
    (command,) = (one for one in table["setup_commands"] if ".bashrc" in one)
    bashrc = tmp_path / ".bashrc"
    bashrc.write_text(before)
    for _ in range(2):
        as_ray_runs(command, tmp_path)
    assert bashrc.read_text().count("graspfleet/venv/bin") == 1
    assert as_ray_runs("echo $PATH", tmp_path).startswith(f"{tmp_path}/graspfleet/venv/bin:")


def as_ray_runs(command: str, home: Path) -> str:
    """Run a command as Ray has a node's ssh server run it."""
    shell = ["bash", "--login", "-c", "-i", f"source ~/.bashrc; {command}"]
    done = subprocess.run(
        shell, env={"HOME": str(home), "PATH": os.environ["PATH"]}, capture_output=True, check=True
    )
    return done.stdout.decode()
