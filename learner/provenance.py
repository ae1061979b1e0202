"""Where a release comes from: versions of what built it, and the source commit."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

_PACKAGES = ("graspfleet", "torch", "ray", "numpy", "onnx", "onnxruntime", "pyzmq", "lmdb")


def software_versions() -> dict[str, str]:
    """Return package versions, Python's, and the commit ("unknown" outside a checkout)."""
    versions = {package: metadata.version(package) for package in _PACKAGES}
    return versions | {"python": platform.python_version(), "commit": source_commit()}


def source_commit() -> str:
    """Return the commit of the source tree, with "+" behind it if files were changed since."""
    root = Path(__file__).resolve().parent.parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],  # noqa: S607
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
