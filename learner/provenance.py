"""Where a run and its releases come from: versions of what built it, and the source commit."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import msgspec

from learner.config import LearnerConfig
from protocol.errors import ConfigurationError
from protocol.key_files import PUBLIC_MODE, write_over

_PACKAGES = ("graspfleet", "torch", "ray", "numpy", "onnx", "onnxruntime", "pyzmq", "lmdb")


def software_versions() -> dict[str, str]:
    """Return package versions, Python's, and the commit ("unknown" outside a checkout)."""
    return package_versions() | {"commit": source_commit()}


def package_versions() -> dict[str, str]:
    """Return the versions that all nodes of a cluster must share."""
    versions = {package: metadata.version(package) for package in _PACKAGES}
    return versions | {"python": platform.python_version()}


def check_versions(found: dict[str, str], wanted: dict[str, str], *, node: str) -> None:
    """Return if a node has the same software as the one that the learner was started on.

    Args:
        found: ``package_versions`` of the node.
        wanted: those of the learner.
        node: for the message.

    Raises:
        ConfigurationError: with what differs.
    """
    differing = [
        f"{name} {found.get(name)} instead of {version}"
        for name, version in wanted.items()
        if _public(found.get(name, "")) != _public(version)
    ]
    if differing:
        raise ConfigurationError(
            f"node {node} has {', '.join(differing)}; install the same versions on every node"
        )


def _public(version: str) -> str:
    """Return a version without what is said of its build: torch 2.13.0+cpu is 2.13.0."""
    return version.partition("+")[0]


def write_run_record(config: LearnerConfig) -> None:
    """Write down what a run is made of: configuration with its seed, versions, commit.

    Raises:
        ConfigurationError: the run folder cannot be made or written.
    """
    record = {"config": config, "software": software_versions()}
    content = msgspec.json.format(msgspec.json.encode(record, enc_hook=str)) + b"\n"
    write_over(config.run_folder / "run.json", content, mode=PUBLIC_MODE)


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
