"""Judges the weights' moving average, builds a release of it, and hands that out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from learner.config import LearnerConfig
from learner.provenance import software_versions
from learner.training.collection_schedule import collection_settings
from learner.training.example_set import ExampleSet
from learner.training.release_gate import ReleaseGate
from learner.training.step import Training
from protocol.errors import RejectedReleaseError
from protocol.release import unpack_release
from protocol.release_manifest import CollectionSettings, ReleaseManifest, SearchSettings
from protocol.security import load_release_secret

if TYPE_CHECKING:
    from learner.releases.builder import ReleaseBuilder

logger = logging.getLogger(__name__)


class Outlet(Protocol):
    """Where a trainer's releases go."""

    def newest(self) -> bytes | None:
        """Return the newest release's file, whatever is pinned; None before the first one."""

    def highest_version(self) -> int:
        """Return the highest version that the server or any robot has."""

    def publish(self, version: int, data: bytes) -> None:
        """Hand a signed release to whoever serves it."""

    def withhold(self, reason: str) -> None:
        """Let the operator know why weights were not released."""


class ReleaseMaker:
    """The releases of one training."""

    def __init__(
        self,
        config: LearnerConfig,
        training: Training,
        held_out: ExampleSet,
        outlet: Outlet,
        *,
        version: int,
    ) -> None:
        """Ask for the newest release; ``prepare`` does what takes long.

        Args:
            config: of the learner.
            training: whose moving average is released.
            held_out: what candidates are judged on.
            outlet: where releases go.
            version: of the newest release that this training knows of; 0 for none.

        Raises:
            ConfigurationError: the signing key is missing or open to others.
        """
        self._config = config
        self._training = training
        self._outlet = outlet
        self._signing_key = load_release_secret(config.keys.release_secret)
        self._builder: ReleaseBuilder | None = None
        self._gate = ReleaseGate(training.learned.network, held_out)
        self._software = software_versions()
        self.version = version
        """Of the newest release."""
        self.withheld = 0
        """How many candidates were held back."""
        self._newest = outlet.newest()
        if self._newest is not None:
            self.version = max(version, self._version_of(self._newest))

    def prepare(self) -> None:
        """Export the graphs, which takes seconds, and read the newest release back; once.

        Not when training begins, so that it begins: the first release is not due yet.
        """
        if self._builder is None:
            # The exporter alone loads for longer than Ray takes to start an actor anew.
            from learner.releases.builder import ReleaseBuilder

            self._builder = ReleaseBuilder(self._training.learned.network)
            if self._newest is not None:
                self._compare_with(self._newest, self._builder)

    def offer(self, attempts: int, metrics: Mapping[str, float]) -> None:
        """Release the moving average, unless it does worse than the newest release.

        Args:
            attempts: of the whole fleet so far.
            metrics: what is known of these weights.
        """
        self.prepare()
        assert self._builder is not None
        if not self._objection():
            self._release(self._builder, attempts, metrics)

    def _objection(self) -> str:
        """Return why the moving average must not be released, and count it; "" if it may."""
        reason = self._gate.objection(self._training.averaged)
        if reason:
            self.withheld += 1
            text = f"weights of step {self._training.step_count} are held back: {reason}"
            logger.warning("%s; training goes on", text)
            self._outlet.withhold(text)
        return reason

    def _release(
        self, builder: ReleaseBuilder, attempts: int, metrics: Mapping[str, float]
    ) -> None:
        """Build, sign and publish; a release that fails its checks is not."""
        version = max(self.version, self._outlet.highest_version()) + 1
        manifest = manifest_of(
            self._config,
            self._training,
            version=version,
            parent=self.version,
            collection=collection_settings(attempts, self._config.collection),
            metrics={"attempts": float(attempts), **metrics},
            software=self._software,
        )
        try:
            weights = self._training.averaged.network.state_dict()
            data = builder.build(weights, manifest, self._signing_key)
        except RejectedReleaseError:
            logger.exception("release %d not published", version)
            return
        self.version = version
        self._outlet.publish(version, data)
        self._compare_with(data, builder, judged_last=True)

    def _version_of(self, data: bytes) -> int:
        try:
            return unpack_release(data, self._signing_key.public_key()).manifest.version
        except RejectedReleaseError:
            return 0  # said when it cannot be compared with

    def _compare_with(
        self, data: bytes, builder: ReleaseBuilder, *, judged_last: bool = False
    ) -> None:
        """Judge candidates by this release, as it is on the robots, from now on."""
        try:
            release = unpack_release(data, self._signing_key.public_key())
            weights = builder.weights_of(release)
            self._gate.now_newest(release.manifest, weights, judged_last=judged_last)
        except RejectedReleaseError as error:
            reason = " ".join(str(error).split())
            logger.warning("the next release is published without comparison: %s", reason)


def manifest_of(
    config: LearnerConfig,
    training: Training,
    *,
    version: int,
    parent: int,
    collection: CollectionSettings,
    metrics: Mapping[str, float],
    software: dict[str, str],
) -> ReleaseManifest:
    """Return what a release of this training says of itself."""
    counts = {
        "step": float(training.step_count),
        "examples_seen": float(training.examples_seen),
    }
    return ReleaseManifest(
        version=version,
        parent=parent,
        created_at_ns=time.time_ns(),
        network=config.network,
        image_height_px=config.image_height_px,
        image_width_px=config.image_width_px,
        encode_bytes=1,
        score_bytes=1,
        search=SearchSettings(),
        collection=collection,
        hand_eye_maps=training.averaged.refiner.refined_maps(training.map_doubts),
        metrics=counts | dict(metrics),
        software=software,
    )
