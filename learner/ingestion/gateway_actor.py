"""The gateway in a process of its own on Ray, and its typed handle."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray

from learner.actor_process import begin_actor
from learner.config import GatewayConfig, LearnerConfig
from learner.ingestion.gateway_report import GatewayReport, HeardReport
from learner.monitoring.training_report import TrainingReport
from learner.placement import actor_options
from learner.provenance import package_versions
from protocol.errors import GraspFleetError, TransientError
from protocol.messages import StatusReply
from protocol.sockets import raise_descriptor_limit

if TYPE_CHECKING:
    from learner.ingestion.gateway import Gateway

logger = logging.getLogger(__name__)

_ANSWER_S = 2.0
"""How long a gateway that is asked about copies may take: the others hear nothing meanwhile."""


class GatewayActor:
    """What runs in the actor's process. Ray starts it anew, with the port it had, if it dies."""

    def __init__(
        self, config: LearnerConfig, gateway: GatewayConfig, software: dict[str, str]
    ) -> None:
        begin_actor(config.log_level, software)
        raise_descriptor_limit()
        # Loaded in this process alone: the learner's own starts Ray meanwhile.
        from learner.ingestion.gateway import Gateway

        size_px = (config.image_height_px, config.image_width_px)
        self._gateway: Gateway = Gateway(
            gateway,
            config.keys.server_secret,
            config.keys.registry,
            size_px,
            host=ray.util.get_node_ip_address(),  # type: ignore[no-untyped-call]
            others=[one.name for one in config.gateways if one != gateway],
        )
        self._gateway.start()
        threading.Thread(target=self._die_with_the_gateway, daemon=True).start()

    def endpoint(self) -> str:
        """Return the endpoint in use."""
        return self._gateway.endpoint

    def status(self) -> StatusReply:
        """See Gateway.status."""
        return self._gateway.status()

    def report(self) -> GatewayReport:
        """See Gateway.report."""
        return self._gateway.report()

    def hear(self, others: Sequence[HeardReport]) -> None:
        """See Gateway.hear."""
        self._gateway.hear(others)

    def kept_digests(
        self, robot_id: str, spool_id: bytes, sequences: Sequence[int]
    ) -> dict[int, bytes]:
        """See EpisodeStore.kept_digests."""
        return self._gateway.kept_digests(robot_id, spool_id, sequences)

    def retire_copies(
        self, robot_id: str, spool_id: bytes, digests: Mapping[int, bytes]
    ) -> list[int]:
        """See EpisodeStore.retire_copies."""
        return self._gateway.retire_copies(robot_id, spool_id, digests)

    def release_published(self, version: int, pinned: Collection[str]) -> None:
        """See FleetState.release_published."""
        self._gateway.release_published(version, pinned)

    def note_pins(self, pinned: Collection[str]) -> None:
        """See FleetState.note_pins."""
        self._gateway.note_pins(pinned)

    def note_training(self, report: TrainingReport) -> None:
        """See FleetObserver.note_training."""
        self._gateway.note_training(report)

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
    """A gateway as the learner sees it."""

    def __init__(self, config: LearnerConfig, gateway: GatewayConfig) -> None:
        """Start the actor, on the node whose disk holds the store."""
        # Without max_task_retries, calls fail within seconds while the actor is started anew or its
        # node is away. With any, Ray keeps them until it is back, whatever the call itself says.
        actor_class: Any = ray.remote(**actor_options(gateway.place))(GatewayActor)
        self._actor: Any = actor_class.remote(config, gateway, package_versions())
        self.place = gateway.place
        self._listening: Any = self._actor.endpoint.remote()
        """Ready once the gateway has listened for the first time."""
        self._stopping: Any = None
        self._asked: Any = None
        """A report that was asked for and has not come."""
        self._told: Any = None
        """What it was told last of the others; ready once it has taken that, or cannot."""
        self._complaints: dict[str, str] = {}
        """Why there is no report or no status, as it was logged last."""

    def ask_endpoint(self) -> Any:  # noqa: ANN401 - Ray's reference
        """Return what becomes the endpoint once the gateway listens.

        Or an error, with the ConfigurationError or StoreError as its cause: a key file is missing,
        the port is in use, the store is damaged. ActorUnavailableError while it is started anew.
        """
        return self._actor.endpoint.remote()

    def ask_report(self) -> None:
        """Ask this gateway what it tells the others, unless it is still to answer."""
        if self._asked is None:
            self._asked = self._actor.report.remote()

    def report(self, timeout_s: float) -> GatewayReport | None:
        """Return what it answered; None when it does not in time."""
        self.ask_report()
        ready, _ = ray.wait([self._asked], timeout=timeout_s)
        if not ready:
            return None
        asked, self._asked = self._asked, None
        try:
            report: GatewayReport = ray.get(asked)
        except ray.exceptions.ActorUnavailableError:
            return None
        except ray.exceptions.RayTaskError as error:
            self._complain("report", f"a gateway is there and cannot report: {error}")
            return None
        except ray.exceptions.RayError as error:
            self._complain("report", f"a gateway has ended for good: {error}")
            return None
        self._complaints.pop("report", None)
        return report

    def _complain(self, asked: str, complaint: str) -> None:
        if complaint != self._complaints.get(asked):
            self._complaints[asked] = complaint
            logger.error("%s", complaint)

    def hear(self, others: Sequence[HeardReport]) -> None:
        """Tell this gateway what the others said last, unless it is still to take what was said."""
        if self._told is None or ray.wait([self._told], timeout=0.0)[0]:
            self._told = self._actor.hear.remote(others)

    def kept_digests(
        self, robot_id: str, spool_id: bytes, sequences: Sequence[int]
    ) -> dict[int, bytes]:
        """See EpisodeStore.kept_digests; TransientError when the gateway does not answer."""
        digests: dict[int, bytes] = _answer(
            self._actor.kept_digests.remote(robot_id, spool_id, sequences)
        )
        return digests

    def retire_copies(
        self, robot_id: str, spool_id: bytes, digests: Mapping[int, bytes]
    ) -> list[int]:
        """See EpisodeStore.retire_copies; TransientError when the gateway does not answer."""
        gone: list[int] = _answer(self._actor.retire_copies.remote(robot_id, spool_id, digests))
        return gone

    def status(self, timeout_s: float) -> StatusReply | None:
        """Return the fleet as the learner knows it; None when the gateway cannot say it now.

        It is being started anew, or is there and cannot look, as at a registry that is away.

        Raises:
            ray.exceptions.RayError: it is gone for good.
        """
        try:
            status: StatusReply = ray.get(self._actor.status.remote(), timeout=timeout_s)
        except (ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnavailableError):
            return None
        except ray.exceptions.RayTaskError as error:
            self._complain("status", f"a gateway is there and cannot say its status: {error}")
            return None
        self._complaints.pop("status", None)
        return status

    def release_published(self, version: int, pinned: Collection[str]) -> None:
        """Say that a release is there; the gateway measures when the robots use it.

        One that is being started anew misses it.

        Args:
            version: of the release.
            pinned: robots that shall not use it; "" for all of them.
        """
        self._actor.release_published.remote(version, pinned)

    def note_pins(self, pinned: Collection[str]) -> None:
        """Say who is pinned now; a gateway that is being started anew misses it."""
        self._actor.note_pins.remote(pinned)

    def note_training(self, report: TrainingReport) -> None:
        """Say how training goes; a gateway that is being started anew misses it."""
        self._actor.note_training.remote(report)

    def ask_to_stop(self) -> None:
        """Ask it to store and ack what was received; one that never listened has nothing."""
        if ray.wait([self._listening], timeout=0.0)[0]:
            self._stopping = self._actor.stop.remote()

    def close(self, name: str, timeout_s: float) -> None:
        """End the actor once it has done what ``ask_to_stop`` asked, or is not there to do it.

        Args:
            name: what the gateway is called in the log.
            timeout_s: how long it may take.

        Raises:
            ray.exceptions.RayTaskError: it is there and could not.
        """
        try:
            if self._stopping is None:
                logger.warning("gateway %s is not there to be stopped: it never listened", name)
            else:
                ray.get(self._stopping, timeout=timeout_s)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            # Its robots have, or its disk, what it had not yet acked.
            logger.warning("gateway %s is not there to be stopped: %s", name, error)
        finally:
            ray.kill(self._actor, no_restart=True)


def _answer(asked: Any) -> Any:  # noqa: ANN401 - Ray's reference, and each caller knows
    try:
        return ray.get(asked, timeout=_ANSWER_S)
    except GraspFleetError:
        raise
    except ray.exceptions.RayError as error:
        raise TransientError(f"a gateway does not answer: {error}") from error
