"""The release server in a process of its own on Ray, and its typed handle."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray

from learner.actor_process import begin_actor
from learner.config import LearnerConfig
from learner.placement import actor_options
from learner.provenance import package_versions
from protocol.errors import TransientError
from protocol.registry import Registry
from protocol.security import load_release_secret
from protocol.sockets import raise_descriptor_limit

if TYPE_CHECKING:
    from learner.releases.server import ReleaseServer

ANSWER_S = 60.0
"""In which the release server answers, also while Ray starts it anew."""


class ReleaseActor:
    """What runs in the actor's process. Ray starts it anew, with the port it had, if it dies."""

    def __init__(self, config: LearnerConfig, software: dict[str, str]) -> None:
        begin_actor(config.log_level, software)
        raise_descriptor_limit()
        # Loaded in this process alone: the learner's own starts Ray meanwhile.
        from learner.releases.server import ReleaseServer

        self._server: ReleaseServer = ReleaseServer(
            endpoint=config.releases.bind,
            server_secret=config.keys.server_secret,
            registry=Registry(config.keys.registry),
            folder=config.releases.folder,
            keep=config.releases.keep,
            signing_key=load_release_secret(config.keys.release_secret),
        )
        self._server.start()
        threading.Thread(target=self._die_with_the_server, daemon=True).start()

    def publish(self, data: bytes) -> None:
        """See ReleaseServer.publish."""
        self._server.publish(data)

    def withhold(self, reason: str) -> None:
        """See ReleaseCatalogue.withhold."""
        self._server.catalogue.withhold(reason)

    def newest(self) -> bytes | None:
        """See ReleaseCatalogue.newest."""
        return self._server.catalogue.newest

    def pins(self) -> dict[str, int]:
        """See ReleaseCatalogue.pins."""
        return self._server.catalogue.pins()

    def highest_version(self) -> int:
        """See ReleaseServer.highest_version."""
        return self._server.highest_version

    def endpoint(self) -> str:
        """Return the endpoint in use, with the port that the system chose if there was none."""
        return self._server.endpoint

    def _die_with_the_server(self) -> None:
        # An actor whose server has ended would look healthy to Ray for ever.
        self._server.join()
        os._exit(1)


class ReleaseServerHandle:
    """The release server as the learner sees it."""

    def __init__(self, config: LearnerConfig) -> None:
        """Start the actor, on the node whose disk holds the releases."""
        options = actor_options(config.releases.place)
        actor_class: Any = ray.remote(max_task_retries=3, **options)(ReleaseActor)
        self._actor: Any = actor_class.remote(config, package_versions())
        self._publishing: Any = None

    def ask_endpoint(self) -> Any:  # noqa: ANN401 - Ray's reference
        """Return what becomes where robots fetch releases once the server listens.

        Or an error, with the ConfigurationError as its cause: a key file is missing, the port is
        in use.
        """
        return self._actor.endpoint.remote()

    def publish(self, data: bytes) -> None:
        """Make a release current and announce it; returns when it is on disk.

        Raises:
            RejectedReleaseError: robots would refuse it.
            TransientError: there is no answer; a server that comes back may still take it.
        """
        # Ray keeps what is asked until the server's node is back: one release at most.
        if self._publishing is not None and not ray.wait([self._publishing], timeout=ANSWER_S)[0]:
            raise TransientError("the release server has not taken the release before yet")
        self._publishing = self._actor.publish.remote(data)
        _answer(self._publishing)

    def withhold(self, reason: str) -> None:
        """Say why the trainer's weights were not released, for the operator to read."""
        self._actor.withhold.remote(reason)

    def newest(self) -> bytes | None:
        """Return the newest release's file; None before the first one."""
        data: bytes | None = ray.get(self._actor.newest.remote())
        return data

    def pins(self) -> dict[str, int]:
        """Return robot -> version it is pinned to; "" is the whole fleet.

        Raises:
            TransientError: there is no answer.
        """
        pins: dict[str, int] = _answer(self._actor.pins.remote())
        return pins

    def look_at_pins(self, timeout_s: float) -> dict[str, int] | None:
        """Return what ``pins`` does; None while Ray is starting the server anew.

        Raises:
            ray.exceptions.RayError: it is gone for good.
        """
        with suppress(ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnavailableError):
            pins: dict[str, int] = ray.get(self._actor.pins.remote(), timeout=timeout_s)
            return pins
        return None

    def highest_version(self) -> int:
        """Return the highest version that the server or any of its robots has.

        Raises:
            TransientError: there is no answer.
        """
        version: int = _answer(self._actor.highest_version.remote())
        return version

    def close(self) -> None:
        """End the actor."""
        ray.kill(self._actor, no_restart=True)


def _answer(asked: Any) -> Any:  # noqa: ANN401 - Ray's reference, and each caller knows
    try:
        return ray.get(asked, timeout=ANSWER_S)
    except (ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnavailableError) as error:
        raise TransientError(
            f"the release server does not answer within {ANSWER_S:.0f} s ({type(error).__name__})"
        ) from error
