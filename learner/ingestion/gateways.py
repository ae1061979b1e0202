"""All gateways of one learner, as its other parts see them. One is the simplest case of several."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from contextlib import ExitStack

import ray

from learner.cluster import Head
from learner.config import LearnerConfig
from learner.ingestion.exchange import Exchange
from learner.ingestion.gateway_actor import GatewayHandle
from learner.monitoring.training_report import TrainingReport
from learner.placement import nodes_in
from protocol.messages import StatusReply

logger = logging.getLogger(__name__)

_POLL_S = 1.0


class Gateways:
    """An actor for each; may be handed to other processes of the learner."""

    def __init__(self, config: LearnerConfig) -> None:
        """Start the actors, each on the node whose disk holds its store."""
        self._names = [one.name for one in config.gateways]
        self._places = [one.place for one in config.gateways]
        self._handles = [GatewayHandle(config, one) for one in config.gateways]

    def await_endpoint(self) -> str:
        """Wait until one of them listens; return where.

        The others follow when their nodes are there.

        Raises:
            ConfigurationError, StoreError: see GatewayHandle.await_endpoint.
        """
        asked = [handle.ask_endpoint() for handle in self._handles]
        ready, _ = ray.wait(asked, num_returns=1)
        endpoint: str = ray.get(ready[0])
        return endpoint

    def await_endpoints(self, head: Head) -> list[str]:
        """Wait until every one listens whose node is there; return where.

        Raises:
            ClusterLostError: the head went meanwhile.
            ConfigurationError, StoreError: see GatewayHandle.await_endpoint.
        """
        asked = [handle.ask_endpoint() for handle in self._handles]
        waiting = dict(zip(asked, self._places, strict=True))
        endpoints: list[str] = []
        while not endpoints or any(nodes_in(place) for place in waiting.values()):
            ready, _ = ray.wait(list(waiting), timeout=_POLL_S)
            endpoints += ray.get(ready)
            for one in ready:
                del waiting[one]
            head.check()
        return endpoints

    def exchange(self) -> Exchange:
        """Return what tells them of each other; to be run in one process."""
        return Exchange(self._handles, self._names)

    def status(self, timeout_s: float) -> StatusReply | None:
        """Return the fleet as the first that answers knows it; None when none does.

        Raises:
            ray.exceptions.RayError: all are gone for good.
        """
        error: ray.exceptions.RayError | None = None
        for handle in self._handles:
            try:
                status = handle.status(timeout_s)
            except ray.exceptions.RayError as gone:
                error = gone
                continue
            if status is not None:
                return status
        if error is not None:
            raise error
        return None

    def release_published(self, version: int, pinned: Collection[str]) -> None:
        """See GatewayHandle.release_published."""
        for handle in self._handles:
            handle.release_published(version, pinned)

    def note_pins(self, pinned: Collection[str]) -> None:
        """Tell all of them which robots are pinned now; "" for all robots."""
        for handle in self._handles:
            handle.note_pins(pinned)

    def note_training(self, report: TrainingReport) -> None:
        """Tell the first gateway how training goes: all would export the same once more."""
        self._handles[0].note_training(report)

    def close(self, timeout_s: float) -> None:
        """Store and ack what was received, then end the actors, also those whose node is gone.

        Raises:
            ray.exceptions.RayTaskError: one that is there could not.
        """
        end_s = time.monotonic() + timeout_s
        for handle in self._handles:
            handle.ask_to_stop()
        with ExitStack() as ending:
            for name, handle in zip(self._names, self._handles, strict=True):
                ending.callback(_close, handle, name, end_s)


def _close(handle: GatewayHandle, name: str, end_s: float) -> None:
    handle.close(name, max(0.0, end_s - time.monotonic()))
