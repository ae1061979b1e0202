"""A robot's hand-eye map, however it was measured, and the file that keeps it."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from protocol.hand_eye import HandEyeMap
from protocol.key_files import PUBLIC_MODE, write_over
from robot_agent.arms.joint_calibration import JointCalibration
from robot_agent.config import AgentConfig

logger = logging.getLogger(__name__)

SCENE_OPTIONS = frozenset({"seed", "objects", "attempts_per_scene"})
"""Options of a simulated robot that change what lies in the bin, but no camera and no arm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """A hand-eye map and how well it explains what was seen."""

    hand_eye_map: HandEyeMap
    residual: float
    """Share of the changed pixels left unexplained, less what was explained wrongly; 0 is best,
    and of a map that a marker board gave."""
    trusted: bool
    """False: no camera explains the pictures; ``hand_eye_map`` is the description's."""
    board_rms_px: float | None = None
    """Of a map that a marker board gave: how far its corners are from where the map puts them."""


class _Saved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The calibration file; it holds only for the camera that was described when it was made."""

    description_sha256: str
    matrix: Annotated[list[float], msgspec.Meta(min_length=12, max_length=12)]
    residual: float
    board_rms_px: float | None = None


def keep(calibration: Calibration, config: AgentConfig) -> None:
    """Save a calibration for the starts to come.

    Raises:
        ConfigurationError: it cannot be written.
    """
    saved = _Saved(
        description_sha256=description_digest(config),
        matrix=[float(value) for value in calibration.hand_eye_map.matrix.ravel()],
        residual=calibration.residual,
        board_rms_px=calibration.board_rms_px,
    )
    write_over(_path(config), msgspec.json.encode(saved), mode=PUBLIC_MODE)


def saved_calibration(config: AgentConfig) -> Calibration | None:
    """Return what was found before with this very robot and camera; None if nothing was."""
    saved = _load(_path(config))
    if saved is None or saved.description_sha256 != description_digest(config):
        return None
    matrix = np.array(saved.matrix, np.float32).reshape(3, 4)
    return Calibration(
        hand_eye_map=HandEyeMap(matrix=matrix),
        residual=saved.residual,
        trusted=True,
        board_rms_px=saved.board_rms_px,
    )


def _path(config: AgentConfig) -> Path:
    return config.state_folder / "calibration.json"


def _load(path: Path) -> _Saved | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Saved)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        logger.warning("%s is damaged (%s); the hand-eye map is found anew", path, error)
        return None


def description_digest(config: AgentConfig) -> str:
    """Return sha256 hex of all that a calibration depends on; another digest, another map.

    Raises:
        ConfigurationError: the calibration of the joints is damaged.
    """
    robot, camera = config.robot, config.camera
    options = {key: value for key, value in robot.options.items() if key not in SCENE_OPTIONS}
    facts = (config.camera_description, dataclasses.replace(robot, options=options), camera)
    encoded = msgspec.json.encode(facts, order="sorted")
    measured = JointCalibration.read(config.state_folder)
    if measured is not None:
        # Where the hand is believed to be depends on its joints.
        encoded += msgspec.json.encode(measured.joints)
    return hashlib.sha256(encoded).hexdigest()
