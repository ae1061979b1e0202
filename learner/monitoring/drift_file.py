"""What is known of the robots' past, kept over a restart of the gateway."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from learner.monitoring.drift_detector import GRID, OF_ROBOTS, DriftDetector
from learner.monitoring.streaks import OF_STREAKS

logger = logging.getLogger(__name__)

DRIFT_FILE = "drift.npz"
"""In the folder of the episode store."""
_OF_MODES = ("log_odds", "variance", "attempts")
_COUNTS = ("release", "since_release")


def write_drift(file: Path, names: list[str], tests: Mapping[str, DriftDetector]) -> None:
    """Put the file in the place of an earlier one.

    Not synced to the disk: without it the robots' past begins anew, and no more is lost.

    Raises:
        OSError: it cannot be written.
    """
    arrays: dict[str, NDArray[np.generic]] = {"names": np.array(names, np.str_), "grid": GRID}
    for part, test in tests.items():
        arrays |= {f"{part}.{name}": getattr(test, name) for name in OF_ROBOTS}
        arrays |= {f"{part}.streaks.{name}": getattr(test.streaks, name) for name in OF_STREAKS}
        arrays |= {f"{part}.level.{name}": getattr(test.level, name) for name in _OF_MODES}
        arrays |= {f"{part}.level.{name}": np.array(getattr(test.level, name)) for name in _COUNTS}
    part_file = file.with_suffix(".part")
    with part_file.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    part_file.replace(file)


def read_drift(file: Path, tests: Mapping[str, DriftDetector]) -> list[str]:
    """Put what was kept into tests without robots, and return the robots' names.

    A file that is missing, damaged or of another kind leaves the tests as they are.
    """
    if not file.exists():
        return []
    try:
        with np.load(file, allow_pickle=False) as kept:
            arrays = dict(kept)
        names = [str(name) for name in arrays["names"]]
        for part, test in tests.items():
            _check(arrays, part, test, len(names))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        logger.warning("drift: %s is not used, robots' past begins anew: %s", file, error)
        return []
    for part, test in tests.items():
        _restore(arrays, part, test)
    return names


def _check(
    arrays: dict[str, NDArray[np.generic]], part: str, test: DriftDetector, robots: int
) -> None:
    if not np.array_equal(arrays["grid"], GRID):
        raise ValueError("another version of the test wrote it")
    expected = {f"{part}.{name}": (robots, *getattr(test, name).shape[1:]) for name in OF_ROBOTS}
    for name in OF_STREAKS:
        shape = getattr(test.streaks, name).shape[1:]
        expected[f"{part}.streaks.{name}"] = (robots, *shape)
    expected |= {f"{part}.level.{name}": getattr(test.level, name).shape for name in _OF_MODES}
    expected |= {f"{part}.level.{name}": () for name in _COUNTS}
    for name, shape in expected.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name].astype(np.float64)).all():
            raise ValueError(f"{name} of shape {arrays[name].shape} instead of finite {shape}")


def _restore(arrays: dict[str, NDArray[np.generic]], part: str, test: DriftDetector) -> None:
    for name in OF_ROBOTS:
        setattr(test, name, arrays[f"{part}.{name}"])
    for name in OF_STREAKS:
        setattr(test.streaks, name, arrays[f"{part}.streaks.{name}"])
    for name in _OF_MODES:
        setattr(test.level, name, arrays[f"{part}.level.{name}"])
    for name in _COUNTS:
        setattr(test.level, name, int(arrays[f"{part}.level.{name}"]))
