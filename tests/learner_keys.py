"""A learner's keys, without an operator and a registry."""

from __future__ import annotations

from pathlib import Path

from fleet.enrolment import RELEASE_PUBLIC, RELEASE_SECRET, SERVER_PUBLIC, SERVER_SECRET
from protocol.security import create_curve_keys, create_release_keys


def create_learner_keys(folder: Path) -> None:
    """Make the learner's CURVE keys and the keys that sign releases."""
    create_curve_keys(folder / SERVER_SECRET, folder / SERVER_PUBLIC)
    create_release_keys(folder / RELEASE_SECRET, folder / RELEASE_PUBLIC)
