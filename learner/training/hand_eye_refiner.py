"""Refines each robot's hand-eye map by the gradient of the grasp labels."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from learner.training.team import Team
from protocol.episode import Episode
from protocol.errors import RejectedEpisodeError
from protocol.hand_eye import HandEyeMap, has_finite_camera
from protocol.release_manifest import RefinedMap

logger = logging.getLogger(__name__)

# B batch, R robots

MAX_ROBOTS = 4096
"""Calibrations that one learner can refine; a robot that calibrates anew counts again."""
MAX_CALIBRATIONS = 16
"""Of one robot: no robot can use up what the fleet has."""
SCALE_M = 0.01
"""A correction of 1 moves the map by this much: metres at the origin, or at EDGE_M per axis."""
EDGE_M = 0.1
"""Distance from the origin at which the linear part of a correction is counted."""
COMMON_PRIOR = 1.0
"""Weight of the squared mean correction in the loss."""
OWN_PRIOR, OWN_PRIOR_SCALE = 0.02, 0.2
"""Weight of the robots' own corrections in the loss, and the size from which they count less."""
Calibration = tuple[str, str]
"""Robot id, and the digest of the map that it found by its own motion."""
IMPLAUSIBLE_M = 0.03
"""A map that learning moved further than this somewhere in the workspace is doubted."""
_ADDING = threading.Lock()
"""Several threads read episodes. Not the module's own: modules are copied, locks cannot be."""


class HandEyeRefiner(nn.Module):
    """Per calibration, an affine correction of the gripper's x and y before the robot's own map.

    Eight numbers per robot: x and y move by a constant and in proportion to x, y and z. They
    start at zero, hence with the map that the robot found itself.
    """

    calibration_R34: Tensor
    row_N: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.correction_R24 = nn.Parameter(torch.zeros(MAX_ROBOTS, 2, 4))
        self.register_buffer("calibration_R34", torch.zeros(MAX_ROBOTS, 3, 4))
        # What has no row yet stands in the last one, which is given to nobody.
        rows = torch.full((MAX_ROBOTS,), MAX_ROBOTS - 1)
        self.register_buffer("row_N", rows, persistent=False)
        self._numbers: dict[Calibration, int] = {}
        self._rows: dict[Calibration, int] = {}
        self._unagreed: dict[Calibration, NDArray[np.float32]] = {}
        self._in_use: dict[str, str] = {}
        self._reused_rows: list[int] = []
        self._crowded: set[str] = set()
        self.agrees_on_rows = False
        """Whether rows are given by ``agree`` alone, because several workers train together."""
        self.trained_rows = 0
        """Rows that a training step has used; others may be known already and wait for theirs."""

    def index_of(self, episode: Episode) -> int:
        """Return the number of this robot's calibration, giving it one if it is new.

        Where a robot has as many as it may, the one in use takes the place of its oldest.

        Raises:
            RejectedEpisodeError: there are more calibrations than MAX_ROBOTS, or of this robot;
                or this one is of no camera, as an older gateway let it into the store.
        """
        if not has_finite_camera(episode.calibration.ravel().tolist()):
            raise RejectedEpisodeError(
                f"episode {episode.episode_id} of {episode.robot_id}: its calibration is of no "
                "camera at a finite distance"
            )
        key = _calibration_of(episode)
        with _ADDING:
            if key not in self._numbers:
                self._add(key, episode.calibration)
            return self._numbers[key]

    def note_in_use(self, episode: Episode, *, is_new: bool) -> None:
        """Note that a robot uses the calibration of an episode.

        Args:
            episode: of the live fleet; what was recorded elsewhere says nothing of today.
            is_new: it has just come. Others come from the newest backwards: the first one counts.
        """
        robot_id, digest = _calibration_of(episode)
        if is_new:
            self._in_use[robot_id] = digest
        else:
            self._in_use.setdefault(robot_id, digest)

    def rows_of(self, robot_B: Tensor) -> Tensor:
        """Return the rows int64[B] of calibrations, by their numbers."""
        return self.row_N[robot_B]

    def agree(self, team: Team) -> None:
        """Give rows to what any worker has read since the last time. All of them must ask."""
        with _ADDING:
            mine = list(self._unagreed.items())
        if team.least(int(not mine)):
            return
        for workers_own in team.everyones(mine):
            for key, calibration in workers_own:
                with _ADDING:
                    self._give_row(key, calibration)
        self.trained_rows = len(self._rows)

    def forward(self, robot_B: Tensor) -> Tensor:
        """Return maps float32[B, 3, 4], by the numbers of the calibrations."""
        return self._maps(self.row_N[robot_B])

    def _maps(self, row_B: Tensor) -> Tensor:
        map_B34: Tensor = self.calibration_R34[row_B] @ self._motion(self.correction_R24[row_B])
        return map_B34

    def take_reused_rows(self) -> list[int]:
        """Return rows that have another calibration than before: their corrections are old."""
        with _ADDING:
            found = self._reused_rows[:]
            self._reused_rows.clear()
        return found

    def _add(self, key: Calibration, calibration: NDArray[np.float32]) -> None:
        if len(self._own(self._numbers, key[0])) >= MAX_CALIBRATIONS:
            self._note_crowded(key[0])
            if self._in_use.get(key[0]) != key[1]:
                raise RejectedEpisodeError(
                    f"{key[0]}: {MAX_CALIBRATIONS} of its calibrations are learned with, and this "
                    "one is not in use"
                )
        elif len(self._numbers) == MAX_ROBOTS - 1:
            raise RejectedEpisodeError(
                f"{key[0]}: one more calibration than the {MAX_ROBOTS - 1} that a learner "
                "refines; begin a new run_folder"
            )
        number = self._place_in(self._numbers, key)
        self._numbers[key] = number
        self.row_N[number] = MAX_ROBOTS - 1
        if self.agrees_on_rows and key not in self._rows:
            self._unagreed[key] = calibration.copy()
        else:
            self._give_row(key, calibration)

    def _give_row(self, key: Calibration, calibration: NDArray[np.float32]) -> None:
        if key not in self._rows:
            count = len(self._rows)
            row = self._place_in(self._rows, key)
            if row < count:
                self._reused_rows.append(row)
            self._rows[key] = row
        row = self._rows[key]
        self.calibration_R34[row] = torch.from_numpy(calibration.copy())
        self._unagreed.pop(key, None)
        if key in self._numbers:
            self.row_N[self._numbers[key]] = row

    def _place_in(self, places: dict[Calibration, int], key: Calibration) -> int:
        """Return the next free place; where the robot has as many as it may, that of its oldest.

        What is left of the oldest one's attempts in the replay is seen through the new map.
        """
        own = self._own(places, key[0])
        if len(own) < MAX_CALIBRATIONS:
            return len(places)
        return places.pop(own[0])

    @staticmethod
    def _own(places: Mapping[Calibration, int], robot_id: str) -> list[Calibration]:
        return [key for key in places if key[0] == robot_id]

    def _note_crowded(self, robot_id: str) -> None:
        if robot_id not in self._crowded:
            self._crowded.add(robot_id)
            logger.warning(
                "%s has had more than %d calibrations: the oldest are forgotten; a camera that "
                "stays where it is needs one",
                robot_id,
                MAX_CALIBRATIONS,
            )

    def prior_loss(self) -> Tensor:
        """Return a scalar that holds corrections near zero, and their mean over robots nearer.

        A shift common to all robots teaches nothing: the network can absorb it as well, and the
        maps would drift away from the geometry. The pull on a robot's own correction has heavy
        tails: it resists noise of a few millimetres, and gives way where a map is truly wrong.
        """
        known_R24 = self.correction_R24[: max(1, self.trained_rows)]
        common = known_R24.mean(dim=0).square().sum()
        squared_R = known_R24.square().sum(dim=(1, 2)) / OWN_PRIOR_SCALE**2
        return COMMON_PRIOR * common + OWN_PRIOR * torch.log1p(squared_R).mean()

    def refined_maps(self, doubts: Mapping[int, str]) -> dict[str, RefinedMap]:
        """Return by robot id the map of the calibration in use, with a warning if in doubt.

        Args:
            doubts: by row, what else speaks against a map (see learner.training.map_doubts).
        """
        known = self.known()
        count = len(known)
        with torch.no_grad():
            row_R = torch.arange(count, device=self.correction_R24.device)
            maps = self._maps(row_R).reshape(count, 12).cpu().numpy()
            moved_m = self._moved_m(self.correction_R24[:count])
        return {
            robot_id: RefinedMap(
                calibration_digest=known[row][1],
                # The shortest decimals that are the same float32: half of the digits.
                matrix=[float(str(value)) for value in maps[row]],
                warning=doubts.get(row, "") or _implausible(float(moved_m[row])),
            )
            for robot_id, row in self._rows_in_use(known).items()
        }

    def corrections_mm(self) -> dict[str, float]:
        """Return by robot id how far the map in use was moved, mean over the workspace, mm."""
        known = self.known()
        with torch.no_grad():
            moved = self._moved_m(self.correction_R24[: len(known)])
        return {robot: 1e3 * float(moved[row]) for robot, row in self._rows_in_use(known).items()}

    def _rows_in_use(self, known: list[Calibration]) -> dict[str, int]:
        """Return by robot id the row of the calibration in use, in the order of the robots' rows.

        That of the highest row where only recorded attempts are known; none while the one in use
        has no row yet: a robot passes over a map of another calibration.
        """
        found: dict[str, int] = {}
        for row, (robot_id, digest) in enumerate(known):
            if self._in_use.get(robot_id, digest) == digest:
                found[robot_id] = row
        return found

    def known(self) -> list[Calibration]:
        """Return (robot id, calibration digest) by row; other threads may add rows meanwhile."""
        with _ADDING:
            return sorted(self._rows, key=self._rows.__getitem__)

    def restore(self, known: list[Calibration], *, trained_rows: int) -> None:
        """Set the rows that a checkpoint's tensors belong to."""
        rows = {(robot, digest): row for row, (robot, digest) in enumerate(known)}
        self._rows.clear()
        self._rows.update(rows)
        self._numbers.clear()
        self._numbers.update(rows)
        self.row_N[: len(rows)] = torch.arange(len(rows))
        self.trained_rows = trained_rows

    def share_robots(self, other: HandEyeRefiner) -> None:
        """Use the rows of ``other``, now and as they grow: a moving average has the same robots."""
        self._numbers, self._rows = other._numbers, other._rows
        self._unagreed, self._in_use = other._unagreed, other._in_use
        self._reused_rows, self._crowded = other._reused_rows, other._crowded
        self.calibration_R34, self.row_N = other.calibration_R34, other.row_N

    @staticmethod
    def _motion(correction_B24: Tensor) -> Tensor:
        """Return float32[B, 4, 4] acting on (x, y, z, 1)."""
        scale = correction_B24.new_tensor([SCALE_M / EDGE_M] * 3 + [SCALE_M])
        motion_B44 = torch.eye(4, device=scale.device).repeat(len(correction_B24), 1, 1)
        top_B24 = motion_B44[:, :2] + correction_B24.float() * scale
        return torch.cat([top_B24, motion_B44[:, 2:]], dim=1)

    @classmethod
    def _moved_m(cls, correction_R24: Tensor) -> Tensor:
        """Return float32[R]: mean distance over the corners of a 20 cm square 2 cm up, metres."""
        edge = EDGE_M
        corners = torch.tensor(
            [[x, y, 0.02, 1.0] for x in (-edge, 0.0, edge) for y in (-edge, 0.0, edge)],
            device=correction_R24.device,
        )
        moved = (cls._motion(correction_R24) @ corners.T)[:, :2] - corners.T[:2]
        moved_R: Tensor = moved.norm(dim=1).mean(dim=1).cpu()
        return moved_R


def _calibration_of(episode: Episode) -> Calibration:
    return episode.robot_id, HandEyeMap(matrix=episode.calibration).digest()


def _implausible(moved_m: float) -> str:
    if moved_m <= IMPLAUSIBLE_M:
        return ""
    return (
        f"learning moved the hand-eye map by {1e3 * moved_m:.0f} mm: "
        "check that the camera is where it was"
    )
