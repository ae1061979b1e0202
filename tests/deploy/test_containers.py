"""The container files name what is there, and a linter has nothing to say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy/containers").glob("*.Dockerfile"))


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_the_linter_has_nothing_to_say(file: Path):
    linter = shutil.which("hadolint", path=Path(sys.executable).parent)
    if linter is None:
        pytest.skip("hadolint has no wheel for this machine")
    done = subprocess.run([linter, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_it_copies_is_in_the_repository(file: Path):
    copied = [line.split()[1:-1] for line in file.read_text().splitlines() if "COPY" in line]
    assert copied
    assert [one for names in copied for one in names if not (ROOT / one).exists()] == []


def test_it_installs_pinned_versions_of_extras_that_there_are(file: Path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"--constraint constraints\.txt \"?\.(?:\[(\w+)\])?", file.read_text())
    assert extras in {"", *project["optional-dependencies"]}
    assert ("agent" in file.name) == (extras == "hardware")


def test_it_runs_a_command_that_the_package_brings(file: Path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = file.read_text()
    if 'ENTRYPOINT ["robot-agent"]' in text:
        assert "robot-agent" in project["scripts"]
    else:
        assert '"python", "-m", "learner"' in text
        assert (ROOT / "learner/__main__.py").is_file()


def test_nothing_runs_as_root(file: Path):
    users = re.findall(r"^USER (\S+)$", file.read_text(), re.MULTILINE)
    assert users[-1:] == ["1000"]


@pytest.mark.parametrize("name", ["lab", "runs", ".venv", ".git", "**/*.secret"])
def test_an_engine_is_not_sent_what_belongs_to_the_lab(name: str):
    assert name in (ROOT / ".dockerignore").read_text().splitlines()
