"""The gateway in a process of its own on Ray, and its typed handle."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection
from typing import Any

import ray

from learner.config import LearnerConfig
from learner.ingestion.gateway import Gateway
from learner.logs import configure_logs
from protocol.messages import StatusReply
from protocol.sockets import raise_descriptor_limit

logger = logging.getLogger(__name__)


class GatewayActor:
    """What runs in the actor's process. Ray starts it anew, with the port it had, if it dies."""

    def __init__(self, config: LearnerConfig) -> None:
        configure_logs(config.log_level)
        raise_descriptor_limit()
        size_px = (config.image_height_px, config.image_width_px)
        self._gateway = Gateway(
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
        """Start the actor and wait until it listens.

        Raises:
            ConfigurationError, StoreError: a key file is missing, the port is in use, the store
                is damaged (as the cause of Ray's own error).
        """
        actor_class: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=3)(GatewayActor)
        self._actor: Any = actor_class.remote(config)
        self.endpoint: str = ray.get(self._actor.endpoint.remote())
        """Where robots deliver."""

    def status(self) -> StatusReply:
        """Return the fleet as the learner knows it."""
        status: StatusReply = ray.get(self._actor.status.remote())
        return status

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

    def close(self) -> None:
        """Store and ack what was received, then end the actor."""
        ray.get(self._actor.stop.remote())
        ray.kill(self._actor, no_restart=True)
