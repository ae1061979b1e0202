"""The gateway in a process of its own on Ray, and its typed handle."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray

from learner.config import LearnerConfig
from learner.logs import configure_logs
from learner.placement import actor_options
from protocol.messages import StatusReply
from protocol.sockets import raise_descriptor_limit

if TYPE_CHECKING:
    from learner.ingestion.gateway import Gateway

logger = logging.getLogger(__name__)


class GatewayActor:
    """What runs in the actor's process. Ray starts it anew, with the port it had, if it dies."""

    def __init__(self, config: LearnerConfig) -> None:
        configure_logs(config.log_level)
        raise_descriptor_limit()
        # Loaded in this process alone: the learner's own starts Ray meanwhile.
        from learner.ingestion.gateway import Gateway

        size_px = (config.image_height_px, config.image_width_px)
        self._gateway: Gateway = Gateway(
            config.gateway, config.keys.server_secret, config.keys.registry, size_px
        )
        self._gateway.start()
        threading.Thread(target=self._die_with_the_gateway, daemon=True).start()

    def endpoint(self) -> str:
        """Return the endpoint in use."""
        return self._gateway.endpoint

    def status(self) -> StatusReply:
        """See Gateway.status."""
        return self._gateway.status()

    def refusals(self) -> dict[str, int]:
        """See Gateway.refusals."""
        return self._gateway.refusals()

    def release_published(self, version: int, pinned: Collection[str]) -> None:
        """See FleetState.release_published."""
        self._gateway.release_published(version, pinned)

    def stop(self) -> None:
        """See Gateway.stop."""
        self._gateway.stop()

    def _die_with_the_gateway(self) -> None:
        # An actor whose gateway has ended would look healthy to Ray for ever.
        self._gateway.join()
        if not self._gateway.is_stopping:
            logger.critical("the gateway's thread ended; this process ends, to be started anew")
            os._exit(1)


class GatewayHandle:
    """The gateway as the learner sees it."""

    def __init__(self, config: LearnerConfig) -> None:
        """Start the actor, on the node whose disk holds the store."""
        options = actor_options(config.gateway.place)
        actor_class: Any = ray.remote(max_task_retries=3, **options)(GatewayActor)
        self._actor: Any = actor_class.remote(config)

    def await_endpoint(self) -> str:
        """Wait until the gateway listens; return where.

        Raises:
            ConfigurationError, StoreError: a key file is missing, the port is in use, the store
                is damaged (as the cause of Ray's own error).
        """
        endpoint: str = ray.get(self._actor.endpoint.remote())
        return endpoint

    def status(self, timeout_s: float) -> StatusReply | None:
        """Return the fleet as the learner knows it; None while the gateway is being started anew.

        Raises:
            ray.exceptions.RayError: it is gone for good.
        """
        with suppress(ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnavailableError):
            status: StatusReply = ray.get(self._actor.status.remote(), timeout=timeout_s)
            return status
        return None

    def refusals(self) -> dict[str, int]:
        """Return how many messages and connections were refused, by reason."""
        refusals: dict[str, int] = ray.get(self._actor.refusals.remote())
        return refusals

    def release_published(self, version: int, pinned: Collection[str]) -> None:
        """Say that a release is there; the gateway measures when the robots use it.

        Args:
            version: of the release.
            pinned: robots that shall not use it; "" for all of them.
        """
        self._actor.release_published.remote(version, pinned)

    def close(self, timeout_s: float) -> None:
        """Store and ack what was received, then end the actor, also one whose node is gone."""
        try:
            ray.get(self._actor.stop.remote(), timeout=timeout_s)
        finally:
            ray.kill(self._actor, no_restart=True)
