"""What a run was made with: versions, commit, machine."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from robot_agent.cameras.simulated import SimulatedCamera
from robot_agent.robots.simulated import SimulatedRobot

_PACKAGES = ("graspfleet", "mujoco", "numpy", "onnxruntime", "pyzmq", "ray", "torch")


def environment() -> dict[str, Any]:
    """Return versions, source commit and machine; what cannot be found is None."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "simulated_pictures": _rendering(),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": psutil.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        },
    }


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _commit() -> str | None:
    """Return the commit of the source tree, with a mark when the tree differs from it."""
    root = Path(__file__).resolve().parents[1]
    try:
        described = subprocess.run(  # noqa: S603
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # installed without its repository
    return described.stdout.strip() or None


def _rendering() -> str:
    """Return how this machine makes simulated pictures: by casting rays or through OpenGL."""
    robot = SimulatedRobot.open({})
    camera = SimulatedCamera.open({}, width_px=64, height_px=64, robot=robot)
    try:
        return camera.renderer
    finally:
        camera.close()
        robot.close()


def _processor() -> str | None:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return platform.processor() or None
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return None
