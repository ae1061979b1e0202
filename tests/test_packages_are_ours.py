"""The four generic package names are ours alone, and the robot's process stays light."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

import pytest

OURS = ("protocol", "robot_agent", "learner", "fleet")
ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "ray", "learner", "fleet", "lmdb", "onnx", "matplotlib"}


@pytest.mark.parametrize("name", OURS)
def test_package_name_leads_to_our_own_folder(name):
    spec = util.find_spec(name)
    assert spec is not None
    assert [Path(place).resolve() for place in spec.submodule_search_locations] == [ROOT / name]


@pytest.mark.parametrize("name", OURS)
def test_no_other_installed_distribution_brings_a_package_of_that_name(name):
    owners = set(metadata.packages_distributions().get(name, []))
    assert owners <= {"graspfleet"}


def modules_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh process has loaded after ``statement``."""
    script = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/"
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_agent_process_loads_neither_torch_nor_ray_nor_the_learner():
    loaded = modules_after("import robot_agent.__main__, robot_agent.agent")
    assert "onnxruntime" in loaded
    assert not loaded & (HEAVY | {"mujoco"})


def test_simulated_robot_adds_mujoco_and_nothing_else_that_is_heavy():
    loaded = modules_after("import robot_agent.robots.simulated, robot_agent.cameras.simulated")
    assert "mujoco" in loaded
    assert not loaded & HEAVY


def test_fleet_help_waits_for_nothing_heavy():
    loaded = modules_after("import fleet.__main__")
    assert not loaded & (HEAVY - {"fleet"} | {"mujoco"})
