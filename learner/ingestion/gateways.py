"""All gateways of one learner, as its other parts see them. One is the simplest case of several."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from contextlib import ExitStack
from typing import Any

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
        self._handles = [GatewayHandle(config, one) for one in config.gateways]

    def await_endpoint(self) -> str:
        """Wait until one of them listens; return where.

        The others follow when their nodes are there.

        Raises:
            ConfigurationError, StoreError: see GatewayHandle.ask_endpoint.
        """
        waiting = self._ask_endpoints()
        while not (endpoints := _take_answer(waiting, None)):
            pass  # the one that answered is being started anew
        return endpoints[0]

    def await_endpoints(self, head: Head) -> list[str]:
        """Wait until every one listens whose node is there; return where.

        Raises:
            ClusterLostError: the head went meanwhile.
            ConfigurationError, StoreError: see GatewayHandle.ask_endpoint.
        """
        waiting = self._ask_endpoints()
        endpoints: list[str] = []
        while not endpoints or any(nodes_in(handle.place) for handle in waiting.values()):
            endpoints += _take_answer(waiting, _POLL_S)
            head.check()
        return endpoints

    def _ask_endpoints(self) -> dict[Any, GatewayHandle]:
        return {handle.ask_endpoint(): handle for handle in self._handles}

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


def _take_answer(waiting: dict[Any, GatewayHandle], timeout_s: float | None) -> list[str]:
    """Take one answer to ``ask_endpoint`` out of those that are waited for; return what it says.

    Nothing if none came in time, or the gateway is being started anew: then it is asked anew.
    """
    ready, _ = ray.wait(list(waiting), timeout=timeout_s)
    endpoints: list[str] = []
    for one in ready:
        handle = waiting.pop(one)
        try:
            endpoints.append(ray.get(one))
        except ray.exceptions.ActorUnavailableError:
            waiting[handle.ask_endpoint()] = handle
    return endpoints


def _close(handle: GatewayHandle, name: str, end_s: float) -> None:
    handle.close(name, max(0.0, end_s - time.monotonic()))
