"""Holds back weights that do worse on held-out attempts than the newest release.

Both predict the same newest held-out examples; the candidate is held back when the whole 95 %
interval of the mean difference in log-loss lies on the worse side, and the mean is large enough to
matter. Better, equal, or too close to tell is released. Of candidates that are as good as the
newest release, at most one in forty is held back by chance; the next one is judged anew a few
seconds later. What robots are pinned to plays no part.

Nothing releases a candidate that stays worse, however long it takes: that is the gate's purpose,
and the operator reads why in the log and in the list of releases. Luck does not keep it shut: the
newest held-out attempts take the place of those that a release was lucky on, and they come from
where the fleet works now. Without held-out attempts (``held_out_fraction = 0``) there is no gate.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from learner.config import FEWEST_HELD_OUT
from learner.networks import GraspNetwork
from learner.training.batch import Batch
from learner.training.example_set import ExampleSet
from learner.training.hand_eye_refiner import NOBODY, HandEyeRefiner
from learner.training.learned import Learned
from learner.training.paired_difference import paired_difference
from protocol.errors import RejectedReleaseError
from protocol.release_manifest import ReleaseManifest

# B batch, R robots

COMPARED = 400
"""Newest held-out examples that are compared."""
FEWEST_ATTEMPTS = FEWEST_HELD_OUT
"""Held-out attempts below which nothing is said: an interval from fewer would be too narrow."""
LEAST_WORSE = 1e-3
"""Nats of log-loss below which a difference does not matter, however sure it is: where every
prediction moves by the same hair, the interval is as narrow as a hair as well."""
_SUREST_LOGIT = 14.0
"""Predictions count as no surer than one in a million: one example must not outweigh the rest."""


class ReleaseGate:
    """The newest release, and how candidates compare with it."""

    def __init__(self, network: GraspNetwork, held_out: ExampleSet) -> None:
        """Begin without a release: everything may pass.

        Args:
            network: of the architecture that is trained; its weights do not matter.
            held_out: what nothing is trained on; it may grow.
        """
        self._held_out = held_out
        self._network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        self._manifest: ReleaseManifest | None = None
        self._losses: dict[int, float] = {}
        self._losses_of_last: dict[int, float] = {}

    def now_newest(
        self,
        manifest: ReleaseManifest,
        weights: Mapping[str, Tensor],
        *,
        judged_last: bool = False,
    ) -> None:
        """Compare with this release from now on.

        Args:
            manifest: with the hand-eye maps as the robots have them.
            weights: of its graphs, by key of the network's state_dict.
            judged_last: this was the last candidate; its log-losses are known already.

        Raises:
            RejectedReleaseError: the weights are of another network.
        """
        self._manifest = None
        self._losses = self._losses_of_last if judged_last else {}
        # Batch normalisation counts its batches for training only: no release has that.
        needed = {key for key in self._network.state_dict() if "num_batches_tracked" not in key}
        if missing := sorted(needed - weights.keys()):
            raise RejectedReleaseError(
                f"release {manifest.version}: it is of another network: it lacks {len(missing)} of "
                f"{len(needed)} tensors, {missing[0]!r} for one"
            )
        try:
            self._network.load_state_dict(self._network.state_dict() | dict(weights))
        except RuntimeError as error:
            raise RejectedReleaseError(f"release {manifest.version}: {error}") from error
        self._manifest = manifest

    @torch.inference_mode()
    def objection(self, candidate: Learned) -> str:
        """Return why a candidate must not be released, with figures; "" when it may."""
        self._losses_of_last = {}
        if self._manifest is None:
            return ""
        batch = self._held_out.newest(COMPARED)
        if len(np.unique(batch.attempt_B.numpy())) < FEWEST_ATTEMPTS:
            return ""
        candidate.eval()
        new_B = _log_loss(candidate(batch.to(candidate.device)), batch)
        self._losses_of_last = dict(zip(batch.place_B.tolist(), new_B.tolist(), strict=True))
        old_B = self._losses_of_newest(batch, candidate.refiner)
        worse = paired_difference(new_B - old_B, batch.attempt_B)
        if worse.low <= 0 or worse.mean < LEAST_WORSE:
            return ""
        return (
            f"on the newest {len(batch)} held-out examples, of {worse.attempts} attempts, its "
            f"log-loss is worse than that of release {self._manifest.version} by "
            f"{worse.mean:.4f} (95 % interval {worse.low:.4f} to {worse.high:.4f}): "
            f"{float(new_B.mean()):.4f} against {float(old_B.mean()):.4f}"
        )

    def _losses_of_newest(self, batch: Batch, refiner: HandEyeRefiner) -> Tensor:
        """Return log-losses float32[B] of the newest release; each is computed once."""
        places = batch.place_B.tolist()
        missing_B = torch.tensor([place not in self._losses for place in places])
        if missing_B.any():
            new = batch.only(missing_B)
            on_device = new.to(refiner.correction_R24.device)
            logit_B = self._network(
                on_device.first_image_BHWC,
                on_device.image_BHWC,
                on_device.pose_B4,
                self._maps(on_device, refiner),
                on_device.action_B5,
            )
            losses = _log_loss(logit_B, new).tolist()
            self._losses.update(zip(new.place_B.tolist(), losses, strict=True))
        return torch.tensor([self._losses[place] for place in places])

    def _maps(self, batch: Batch, refiner: HandEyeRefiner) -> Tensor:
        """Return float32[B, 3, 4]: what each robot makes of this release's maps."""
        assert self._manifest is not None
        maps_R34 = refiner.calibration_R34.clone()
        for row, (robot_id, digest) in enumerate(refiner.known()):
            refined = self._manifest.hand_eye_maps.get(robot_id)
            if refined is not None and refined.calibration_digest == digest:
                maps_R34[row] = torch.tensor(refined.matrix).reshape(3, 4)
        row_B = refiner.rows_of(batch.calibration_B)
        return torch.where((row_B == NOBODY)[:, None, None], batch.map_B34, maps_R34[row_B])


def _log_loss(logit_B: Tensor, batch: Batch) -> Tensor:
    logit_B = logit_B.float().cpu()
    # What is no number is as wrong as can be.
    wrong_B = torch.where(batch.success_B > 0.5, -_SUREST_LOGIT, _SUREST_LOGIT)
    logit_B = torch.where(logit_B.isnan(), wrong_B, logit_B)
    logit_B = logit_B.clamp(-_SUREST_LOGIT, _SUREST_LOGIT)
    return functional.binary_cross_entropy_with_logits(logit_B, batch.success_B, reduction="none")
