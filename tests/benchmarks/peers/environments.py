"""A virtual environment for each peer, made from the package index and kept."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parent
INSTALL_S = 600.0
_SHOWN_LINES = 12


class EnvironmentFailedError(Exception):
    """A peer could not be installed."""


def python_for(pins: str, folder: Path) -> Path:
    """Return the interpreter that has what ``pins`` names; make its environment if need be.

    Args:
        pins: a file of exact versions beside this one; "" for the environment that runs this.
        folder: where environments are kept.

    Raises:
        EnvironmentFailedError: with what the installer said.
    """
    if not pins:
        return Path(sys.executable)
    wanted = PINS / pins
    environment = folder / wanted.stem
    python = environment / "bin" / "python"
    receipt = environment / "installed"
    checksum = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if not receipt.exists() or receipt.read_text() != checksum:
        print(f"installing {wanted.stem} into {environment} ...", flush=True)
        _install(wanted, environment, python)
        receipt.write_text(checksum)
    return python


def _install(wanted: Path, environment: Path, python: Path) -> None:
    # The interpreter below the environment that runs this: that one has no pip of its own.
    base = str(Path(sys.base_prefix) / "bin" / "python3")
    _run([base, "-m", "venv", "--clear", "--without-pip", str(environment)], wanted)
    pip = [base, "-m", "pip", "--python", str(python), "install", "-q", "--no-input"]
    _run([*pip, "--disable-pip-version-check", "--no-deps", "-r", str(wanted)], wanted)


def _run(command: list[str], wanted: Path) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailedError(
            f"{wanted.stem} was not installed within {INSTALL_S:.0f} s"
        ) from error
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_SHOWN_LINES:])
        raise EnvironmentFailedError(
            f"{wanted.stem} cannot be installed for Python {sys.version.split()[0]}:\n{said}"
        )
