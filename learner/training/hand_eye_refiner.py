"""Refines each robot's hand-eye map by the gradient of the grasp labels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from learner.networks.base import in_float32
from learner.training.calibration_rows import Calibration, CalibrationRows, key_of
from learner.training.team import Team
from protocol.episode import Episode
from protocol.errors import RejectedEpisodeError
from protocol.hand_eye import HandEyeMap, has_finite_camera
from protocol.release_manifest import RefinedMap

# B batch, R rows: calibrations of robots

MAX_ROWS = 4096
"""Calibrations that have a correction at a time, and one more."""
NOBODY = MAX_ROWS - 1
"""The row of every calibration that has none: its map stays as it is."""
SCALE_M = 0.01
"""A correction of 1 moves the map by this much: metres at the origin, or at EDGE_M per axis."""
EDGE_M = 0.1
"""Distance from the origin at which the linear part of a correction is counted."""
COMMON_PRIOR = 1.0
"""Weight of the squared mean correction in the loss."""
OWN_PRIOR, OWN_PRIOR_SCALE = 0.02, 0.2
"""Weight of the robots' own corrections in the loss, and the size from which they count less."""
IMPLAUSIBLE_M = 0.03
"""A map that learning moved further than this somewhere in the workspace is doubted."""


class HandEyeRefiner(nn.Module):
    """Per calibration, an affine correction of the gripper's x and y before the robot's own map.

    Eight numbers per robot: x and y move by a constant and in proportion to x, y and z. They
    start at zero, hence with the map that the robot found itself. Any thread may read episodes;
    rows change between two steps alone, by the thread that steps.
    """

    calibration_R34: Tensor
    key_R: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.correction_R24 = nn.Parameter(torch.zeros(MAX_ROWS, 2, 4))
        self.register_buffer("calibration_R34", torch.zeros(MAX_ROWS, 3, 4))
        self.register_buffer("key_R", torch.full((MAX_ROWS,), -1), persistent=False)
        self.rows = CalibrationRows(MAX_ROWS - 1)
        self.trained_rows = 0
        """Rows that a training step has used; others may be known already and wait for theirs."""

    def key_of(self, episode: Episode) -> int:
        """Return the key of this robot's calibration, and see to it that it gets a row.

        Raises:
            RejectedEpisodeError: it is of no camera, as an older gateway let it into the store.
        """
        if not has_finite_camera(episode.calibration.ravel().tolist()):
            raise RejectedEpisodeError(
                f"episode {episode.episode_id} of {episode.robot_id}: its calibration is of no "
                "camera at a finite distance"
            )
        calibration = _calibration_of(episode)
        self.rows.want(calibration, episode.calibration)
        return key_of(calibration)

    def note_in_use(self, episode: Episode, *, is_new: bool) -> None:
        """See CalibrationRows."""
        self.rows.note_in_use(_calibration_of(episode), is_new=is_new)

    def give_rows(self, team: Team) -> list[int]:
        """Give rows to what any worker has read since the last time. All of them must ask.

        Returns:
            rows that were given; what was learned there before is of another calibration.
        """
        wanted = self.rows.take_wanted()
        if team.least(int(not wanted)):
            return []
        given = []
        for one in itertools.chain.from_iterable(team.everyones(wanted)):
            row = self.rows.give(one)
            if row is not None:
                self.calibration_R34[row] = torch.from_numpy(one.matrix)
                self.key_R[row] = key_of(one.calibration)
                given.append(row)
        return given

    def note_trained(self, team: Team, calibration_B: Tensor) -> None:
        """Count the rows that a step is about to use."""
        if team.size > 1:
            self.trained_rows = len(self.rows)
        else:
            row_B = self.rows_of(calibration_B)
            newest = int(torch.where(row_B == NOBODY, -1, row_B).max())
            self.trained_rows = max(self.trained_rows, newest + 1)

    def rows_of(self, calibration_B: Tensor) -> Tensor:
        """Return the rows int64[B] of calibrations, by their keys."""
        key_R, row_R = self.key_R[: len(self.rows) + 1].sort()
        place_B = torch.searchsorted(key_R, calibration_B).clamp_(max=len(key_R) - 1)
        return torch.where(key_R[place_B] == calibration_B, row_R[place_B], NOBODY)

    def forward(self, calibration_B: Tensor, found_B34: Tensor) -> Tensor:
        """Return refined maps float32[B, 3, 4].

        Args:
            calibration_B: int64[B], keys of calibrations.
            found_B34: float32[B, 3, 4], the maps that the robots found themselves.
        """
        row_B = self.rows_of(calibration_B)
        is_known_B11 = (row_B != NOBODY)[:, None, None]
        # In bfloat16 a map would swallow corrections of a millimetre.
        with in_float32(found_B34.device):
            map_B34: Tensor = found_B34 @ self._motion(self.correction_R24[row_B] * is_known_B11)
        return map_B34

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
            doubts: by key, what else speaks against a map (see learner.training.map_doubts).
        """
        rows, known = self.rows.in_use(), self.known()
        count = len(known)
        with torch.no_grad():
            motion_R44 = self._motion(self.correction_R24[:count])
            maps = (self.calibration_R34[:count] @ motion_R44).reshape(count, 12).cpu().numpy()
            moved_m = self._moved_m(self.correction_R24[:count])
        return {
            robot_id: RefinedMap(
                calibration_digest=known[row][1],
                # The shortest decimals that are the same float32: half of the digits.
                matrix=[float(str(value)) for value in maps[row]],
                warning=doubts.get(key_of(known[row]), "") or _implausible(float(moved_m[row])),
            )
            for robot_id, row in rows.items()
        }

    def corrections_mm(self) -> dict[str, float]:
        """Return by robot id how far the map in use was moved, mean over the workspace, mm."""
        rows = self.rows.in_use()
        with torch.no_grad():
            moved = self._moved_m(self.correction_R24)
        return {robot_id: 1e3 * float(moved[row]) for robot_id, row in rows.items()}

    def known(self) -> list[Calibration]:
        """Return (robot id, calibration digest) by row."""
        return self.rows.known()

    def restore(self, known: list[Calibration], by_age: list[int], *, trained_rows: int) -> None:
        """Set the rows that a checkpoint's tensors belong to."""
        self.rows.restore(known, by_age)
        self.key_R[: len(known)] = torch.tensor([key_of(one) for one in known], dtype=torch.int64)
        self.trained_rows = trained_rows

    def share_robots(self, other: HandEyeRefiner) -> None:
        """Use the rows of ``other``, now and as they change: a moving average has the same."""
        self.rows = other.rows
        self.calibration_R34, self.key_R = other.calibration_R34, other.key_R

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
