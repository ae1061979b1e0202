"""Judges the weights' moving average, builds a release of it, and hands that out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from learner.config import LearnerConfig
from learner.monitoring.training_report import TrainingReport
from learner.provenance import software_versions
from learner.releases.export_process import ExportProcess
from learner.training.collection_schedule import collection_settings
from learner.training.example_set import ExampleSet
from learner.training.release_gate import ReleaseGate
from learner.training.snapshot import HeldOut, Snapshot
from learner.training.step import Training
from protocol.errors import RejectedReleaseError, TransientError
from protocol.release import unpack_release
from protocol.release_manifest import CollectionSettings, ReleaseManifest, SearchSettings
from protocol.security import load_release_secret

if TYPE_CHECKING:
    from learner.releases.builder import ReleaseBuilder
    from learner.releases.exported_graph import NetworkGraphs

logger = logging.getLogger(__name__)

_MOST_EXPORTS = 3


class Outlet(Protocol):
    """Where a trainer's releases go."""

    def newest(self) -> bytes | None:
        """Return the newest release's file, whatever is pinned; None before the first one."""

    def highest_version(self) -> int:
        """Return the highest version that the server or any robot has.

        Raises:
            TransientError: the server does not answer.
        """

    def publish(self, version: int, data: bytes) -> None:
        """Hand a signed release to whoever serves it.

        Raises:
            TransientError: the server does not answer.
        """

    def withhold(self, reason: str) -> None:
        """Let the operator know why weights were not released."""

    def report(self, report: TrainingReport) -> None:
        """Let the operator know how training goes; every second, and worth no waiting for."""


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
        """Ask for the newest release.

        Args:
            config: of the learner.
            training: whose snapshots are released.
            held_out: what candidates are judged on.
            outlet: where releases go.
            version: of the newest release that this training knows of; 0 for none.

        Raises:
            ConfigurationError: the signing key is missing or open to others.
        """
        self._config = config
        self._outlet = outlet
        self._signing_key = load_release_secret(config.keys.release_secret)
        self._builder: ReleaseBuilder | None = None
        self._export: ExportProcess | None = None
        self._exports = 0
        self._gate = ReleaseGate(training.learned.network, held_out)
        self._software = software_versions()
        self.version = version
        """Of the newest release."""
        self.withheld = 0
        """How many candidates were held back."""
        self.unpublished = 0
        """How many the release server did not take, as it did not answer."""
        self.offered = 0
        """How many were judged, those included."""
        self.offering_s = 0.0
        """How long it took to judge, build and hand out."""
        self.created_at_ns = 0
        """When the newest release was made, UTC; 0 when none is known."""
        self._newest = outlet.newest()
        if self._newest is not None:
            self._note(self._newest)

    def begin(self) -> None:
        """Begin to export the graphs, in a process of its own.

        Not on a thread beside the steps: torch keeps state of an export that all threads share.

        Raises:
            TransientError: there is no process to be had.
        """
        self._exports += 1
        try:
            self._export = ExportProcess(
                self._config.network,
                height_px=self._config.image_height_px,
                width_px=self._config.image_width_px,
            )
        except OSError as error:
            raise TransientError(
                f"no process to export the graphs in: {error.strerror or error}"
            ) from error

    @property
    def is_ready(self) -> bool:
        """Whether an offer can be prepared without waiting."""
        return self._builder is not None or (self._export is not None and self._export.is_over)

    def prepare(self, snapshot: Snapshot) -> bool:
        """Take the graphs, and read the newest release back, before the first offer; once.

        Returns:
            False when the export failed and was begun anew.

        Raises:
            TransientError: it failed again and again.
        """
        if self._builder is not None:
            return True
        graphs = self._graphs()
        if graphs is None:
            return False
        # Loaded beside the steps.
        from learner.releases.builder import ReleaseBuilder

        self._builder = ReleaseBuilder(snapshot.averaged.network, graphs)
        self.close()
        if self._newest is not None:
            self._compare_with(self._newest, self._builder)
        return True

    def _graphs(self) -> NetworkGraphs | None:
        """Return what the process exported; None if that failed and is tried again."""
        assert self._export is not None
        try:
            return self._export.graphs()
        except TransientError as error:
            self.close()
            if self._exports == _MOST_EXPORTS:
                raise
            logger.warning("%s; exporting once more", error)
            self.begin()
            return None

    def close(self) -> None:
        """End the process of the export, if it is still there."""
        if self._export is not None:
            self._export.close()
            self._export = None

    def offer(self, snapshot: Snapshot, attempts: int, held_out: HeldOut) -> None:
        """Release the moving average, unless it does worse than the newest release.

        Args:
            snapshot: of what is to be released.
            attempts: of the whole fleet so far.
            held_out: what is known of these weights, or of recent ones.
        """
        assert self._builder is not None
        began_s = time.monotonic()
        if not self._objection(snapshot):
            try:
                self._release(self._builder, snapshot, attempts, held_out)
            except TransientError as error:
                self.unpublished += 1
                logger.error(  # noqa: TRY400 - the reason is all there is to know
                    "weights of step %d are not released: %s; training goes on, and newer weights "
                    "are released once it answers",
                    snapshot.step_count,
                    error,
                )
        self.offered += 1
        self.offering_s += time.monotonic() - began_s

    def _objection(self, snapshot: Snapshot) -> str:
        """Return why the moving average must not be released, and count it; "" if it may."""
        reason = self._gate.objection(snapshot.averaged)
        if reason:
            self.withheld += 1
            text = f"weights of step {snapshot.step_count} are held back: {reason}"
            logger.warning("%s; training goes on", text)
            self._outlet.withhold(text)
        return reason

    def _release(
        self, builder: ReleaseBuilder, snapshot: Snapshot, attempts: int, held_out: HeldOut
    ) -> None:
        """Build, sign and publish; a release that fails its checks is not.

        Raises:
            TransientError: the release server does not answer.
        """
        version = max(self.version, self._outlet.highest_version()) + 1
        manifest = manifest_of(
            self._config,
            snapshot,
            version=version,
            parent=self.version,
            collection=collection_settings(attempts, self._config.collection),
            held_out=held_out,
            metrics={"attempts": float(attempts)},
            software=self._software,
        )
        try:
            weights = snapshot.averaged.network.state_dict()
            data = builder.build(weights, manifest, self._signing_key)
        except RejectedReleaseError:
            logger.exception("release %d not published", version)
            return
        self._outlet.publish(version, data)
        self.version, self.created_at_ns = version, manifest.created_at_ns
        self._compare_with(data, builder, judged_last=True)

    def _note(self, data: bytes) -> None:
        """Go on from the newest release that is served."""
        try:
            manifest = unpack_release(data, self._signing_key.public_key()).manifest
        except RejectedReleaseError:
            return  # said when it cannot be compared with
        self.version = max(self.version, manifest.version)
        self.created_at_ns = manifest.created_at_ns

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
    snapshot: Snapshot,
    *,
    version: int,
    parent: int,
    collection: CollectionSettings,
    held_out: HeldOut,
    metrics: Mapping[str, float],
    software: dict[str, str],
) -> ReleaseManifest:
    """Return what a release of this training says of itself."""
    counts = {
        "step": float(snapshot.step_count),
        "examples_seen": float(snapshot.examples_seen),
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
        hand_eye_maps=snapshot.averaged.refiner.refined_maps(held_out.map_doubts),
        metrics={**counts, **metrics, **held_out.figures},
        software=software,
    )
