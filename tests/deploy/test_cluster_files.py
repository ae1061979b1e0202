"""Ray accepts the cluster files, and what they name is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._private.runtime_env.packaging import create_package
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


def test_a_submitted_job_does_not_take_the_labs_folder_along(tmp_path: Path):
    checkout, package = tmp_path / "checkout", tmp_path / "package.zip"
    for name in ("lab/keys/server.secret", "elsewhere/release.secret", "learner/__main__.py"):
        (checkout / name).parent.mkdir(parents=True)
        (checkout / name).write_text("content")
    shutil.copy(ROOT / ".gitignore", checkout)
    # As ``ray job submit --working-dir`` packs it.
    create_package(str(checkout), package, include_gitignore=True)
    files = [name for name in zipfile.ZipFile(package).namelist() if not name.endswith("/")]
    assert sorted(files) == [".gitignore", "learner/__main__.py"]


@pytest.mark.parametrize("name", ["cluster.aws.yaml", "cluster.gcp.yaml"])
def test_no_machine_is_rented_for_a_gpu_that_nothing_uses(name: str):
    types = read(ROOT / "deploy/ray" / name)["available_node_types"].values()
    assert [one for one in types if "GPU" in one["resources"]] == []


@pytest.mark.skipif(find_spec("ensurepip") is None, reason="this Python cannot install pip")
def test_a_half_made_environment_is_made_anew(tmp_path: Path):
    commands = [one for file in FILES for one in read(file)["setup_commands"] if "-m venv" in one]
    # Every file has the same, for the Python that its machines have.
    (command,) = {re.sub(r"python3\S* -m", f"{sys.executable} -m", one) for one in commands}
    made = tmp_path / "graspfleet/venv/bin"
    made.mkdir(parents=True)
    (made / "python").symlink_to(sys.executable)  # all there is where ensurepip was missing
    as_ray_runs(command, tmp_path)
    assert (made / "pip").exists()


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
