"""The learner: gateways, release server and trainer, actors on Ray that live and end together."""

from __future__ import annotations

import logging
import re
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import ray

from learner.cluster import Head
from learner.config import LearnerConfig
from learner.ingestion.exchange import Exchange
from learner.ingestion.gateways import Gateways
from learner.placement import with_places
from learner.releases.actor import ReleaseServerHandle
from learner.training.actor import TrainingHandle
from protocol import errors
from protocol.errors import ClusterLostError, GraspFleetError
from protocol.messages import StatusReply

logger = logging.getLogger(__name__)

_STOP_S = 30.0
_CHECK_S = 10.0
_OWN_ERROR = re.compile(r"^protocol\.errors\.(\w+): (.+)$", re.MULTILINE)


class Learner:
    """A context manager, entered within ``ray_of``: inside it the learner serves its fleet.

    Its actors end with the process that entered it, however that ends: what they must keep is on
    disk, and no learner is left behind that nobody knows of.
    """

    def __init__(self, config: LearnerConfig, head: Head) -> None:
        """Prepare; ``head`` is of the Ray that the actors shall run on."""
        self._config = config
        self._head = head
        self._gateways: Gateways | None = None
        self._releases: ReleaseServerHandle | None = None
        self._training: TrainingHandle | None = None
        self._exchange: Exchange | None = None

    def __enter__(self) -> Self:
        """Start the actors; returns when robots may connect.

        Raises:
            ClusterLostError: Ray's head went meanwhile.
            GraspFleetError: what an actor's own start-up raised: a key file, a port, a store.
        """
        config = with_places(self._config)
        try:
            self._gateways = Gateways(config)
            self._releases = ReleaseServerHandle(config)
            self._training = TrainingHandle(config, self._gateways, self._releases)
            # All three are starting by now: what comes last takes longest to load.
            endpoints = self._gateways.await_endpoints(self._head)
            logger.info("robots deliver to %s", ", ".join(endpoints))
            self._exchange = self._gateways.exchange()
            self._exchange.start()
            endpoint = self._head.answer(self._releases.ask_endpoint())
            logger.info("robots fetch releases from %s", endpoint)
            self._head.answer(self._training.ask_start())
        except ray.exceptions.RayError as error:
            raise _own_cause(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Train no more, store and ack what was received, end the actors."""
        if isinstance(error, ClusterLostError):
            return  # Ray would wait for its head; each actor ends with its node
        try:
            self._end()
        except ray.exceptions.RayError:
            if error is None:
                raise
            # A part that is gone for good cannot be asked to end; ``error`` says why it went.
            logger.debug("not every part ended in order", exc_info=True)

    def _end(self) -> None:
        with ExitStack() as ending:
            # Last in, first out; whatever one of them raises, the others are ended too.
            if self._gateways is not None:
                ending.callback(self._gateways.close, _STOP_S)
            if self._releases is not None:
                ending.callback(self._releases.close)
            if self._training is not None:
                ending.callback(self._training.stop, _STOP_S)
            if self._exchange is not None:
                ending.callback(self._exchange.close)

    def status(self) -> StatusReply | None:
        """Return the fleet as the learner knows it; None while no gateway answers."""
        assert self._gateways is not None
        try:
            return self._gateways.status(_CHECK_S)
        except ray.exceptions.RayError as error:
            raise _own_cause(error) from error

    def check(self) -> None:
        """Return if trainer and release server live, or are being started anew.

        Gateways learn by it what is pinned, also those that were started anew.

        Raises:
            GraspFleetError: what one of them is gone for good of, where it said so.
            ray.exceptions.RayError: otherwise.
        """
        assert self._gateways is not None
        assert self._training is not None
        assert self._releases is not None
        try:
            self._training.check(_CHECK_S)
            pins = self._releases.look_at_pins(_CHECK_S)
            if pins is not None:
                self._gateways.note_pins(set(pins))
        except ray.exceptions.RayError as error:
            raise _own_cause(error) from error


def _own_cause(error: BaseException) -> BaseException:
    """Return the GraspFleetError that an actor's constructor raised, or else Ray's own error.

    Of what a constructor raised, Ray hands on the text alone: a traceback.
    """
    for name, text in reversed(_OWN_ERROR.findall(str(error))):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, GraspFleetError):
            return kind(text)
    return error
