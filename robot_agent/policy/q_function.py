"""The hand-eye Q-function of a release, ready to predict on this robot."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose, ImageArray, PolicyIdentity
from protocol.errors import CameraError, NonFiniteScoreError, RejectedReleaseError
from protocol.hand_eye import HandEyeMap
from protocol.release import Release, policy_digest
from protocol.release_manifest import CollectionSettings, RefinedMap, SearchSettings
from robot_agent.policy.graph_session import FLOAT32, UINT8, GraphSession

# N candidates

ENCODE_INPUTS = {"first_image": UINT8, "image": UINT8}
SCORE_INPUTS = {"features": FLOAT32, "pose": FLOAT32, "hand_eye_map": FLOAT32, "actions": FLOAT32}
_WARM_UP_CANDIDATES = (1, 64)


class QFunction:
    """Predicts the success of grasps that motions lead to (Levine et al. 2016, section IV-A).

    Belongs to one thread at a time.
    """

    def __init__(
        self,
        release: Release,
        *,
        robot_id: str,
        calibration: HandEyeMap,
        joint_calibration: str = "",
    ) -> None:
        """Load the graphs and try them on random input.

        The release's refined map of this robot is used if it was refined from ``calibration``;
        otherwise the calibration itself. ``joint_calibration``, sha256 hex or "", only goes into
        the policy's identity.

        Raises:
            RejectedReleaseError: a graph cannot be loaded, has another signature, or gives
                anything but probabilities.
        """
        self.release = release
        self.refined = _refinement(release, robot_id, calibration)
        """The learner's refinement in use; None when the calibration is."""
        self.hand_eye_map = calibration if self.refined is None else _map_of(self.refined)
        self._encode = GraphSession("encode", release.encode_graph, ENCODE_INPUTS, "features")
        self._score = GraphSession("score", release.score_graph, SCORE_INPUTS, "success")
        self._map = np.ascontiguousarray(self.hand_eye_map.matrix, np.float32)
        self._image_shape = (release.manifest.image_height_px, release.manifest.image_width_px, 3)
        self.policy = PolicyIdentity(
            release_version=release.manifest.version,
            digest=policy_digest(release, self.hand_eye_map, joint_calibration),
        )
        self._warm_up()

    @property
    def version(self) -> int:
        """Version of the release."""
        return self.release.manifest.version

    @property
    def created_at_ns(self) -> int:
        """When the release was made, UTC by the learner's clock."""
        return self.release.manifest.created_at_ns

    @property
    def search(self) -> SearchSettings:
        """How the release wants candidates searched."""
        return self.release.manifest.search

    @property
    def collection(self) -> CollectionSettings:
        """How the release wants attempts made."""
        return self.release.manifest.collection

    def encode(self, first_image: ImageArray, image: ImageArray) -> NDArray[np.float32]:
        """Return the features of one decision; their shape is the network's own affair.

        Args:
            first_image: uint8[H, W, 3], the bin without the gripper.
            image: uint8[H, W, 3], what the robot sees now.

        Raises:
            CameraError: an image has another size than the release was trained for.
        """
        for picture in (first_image, image):
            if picture.shape != self._image_shape or picture.dtype != np.uint8:
                raise CameraError(
                    f"the camera gives {picture.dtype}{list(picture.shape)}, but release"
                    f" {self.version} needs uint8{list(self._image_shape)};"
                    " set camera.width_px and camera.height_px to it"
                )
        return self._encode.run(first_image=first_image[None], image=image[None])

    def score(
        self, features: NDArray[np.float32], pose: GripperPose, actions: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the predicted success float32[N] of closing after each of actions[N, 5].

        Args:
            features: what ``encode`` returned for the present images.
            pose: measured pose of the gripper, base frame.
            actions: float32[N, 5], displacements from ``pose`` (see protocol.episode.Action).

        Raises:
            NonFiniteScoreError: the network returned NaN or infinity.
        """
        success = self._score.run(
            features=features, pose=pose.as_array(), hand_eye_map=self._map, actions=actions
        )
        finite = np.isfinite(success)
        if not finite.all():
            raise NonFiniteScoreError(
                f"release {self.version}: {np.count_nonzero(~finite)} of {success.size} predicted"
                " successes are NaN or infinite"
            )
        return success

    def _warm_up(self) -> None:
        rng = np.random.default_rng(0)
        first_image, image = rng.integers(0, 256, (2, *self._image_shape), np.uint8)
        pose = GripperPose(x_m=0.0, y_m=0.0, z_m=0.05, yaw_rad=0.0)
        features = self.encode(first_image, image)
        for count in _WARM_UP_CANDIDATES:
            actions = rng.uniform(-0.05, 0.05, (count, 5)).astype(np.float32)
            try:
                success = self.score(features, pose, actions)
            except NonFiniteScoreError as error:
                raise RejectedReleaseError(f"refused on trial: {error}") from error
            if success.shape != (count,):
                raise RejectedReleaseError(
                    f"release {self.version}: on trial {count} actions gave shape"
                    f" {list(success.shape)}; expected [{count}]"
                )
            if success.min() < 0.0 or success.max() > 1.0:
                raise RejectedReleaseError(
                    f"release {self.version}: on trial {count} actions gave"
                    f" {success.min():.3g} to {success.max():.3g}; expected 0 to 1"
                )


def _refinement(release: Release, robot_id: str, calibration: HandEyeMap) -> RefinedMap | None:
    refined = release.manifest.hand_eye_maps.get(robot_id)
    if refined is None or refined.calibration_digest != calibration.digest():
        return None
    return refined


def _map_of(refined: RefinedMap) -> HandEyeMap:
    return HandEyeMap(matrix=np.array(refined.matrix, np.float32).reshape(3, 4))
