"""The Ray that a learner runs on: joined, or started and ended with it."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from learner.config import LearnerConfig
from learner.placement import nodes_in, places_of
from protocol.errors import ClusterLostError, ConfigurationError, TransientError

logger = logging.getLogger(__name__)

_SUBMITTED = "RAY_ADDRESS"
"""Set for whatever runs as a Ray job: the cluster that it was submitted to."""
_ANSWER_S = 10.0
_SILENCE_S = 10.0
"""Of the head, after which it is taken for gone. Ray waits a minute, and then ends this process."""
_LOOK_S = 1.0


@contextmanager
def ray_of(config: LearnerConfig) -> Iterator[None]:
    """Join the Ray that the configuration names, or start one, for the time of the block.

    Raises:
        TransientError: nothing answers at that address.
        ConfigurationError: what answers is no Ray, or one of another version.
    """
    address = address_of(config)
    if not (address and _join(address)):
        _start(config)
    try:
        yield
    finally:
        ray.shutdown()


def address_of(config: LearnerConfig) -> str:
    """Return where the Ray is that the learner shall join; "" for one of its own."""
    return config.ray.address or os.environ.get(_SUBMITTED, "")


class Head:
    """The head of the Ray that this process has joined: whether it is still there."""

    def __init__(self) -> None:
        self._address = str(ray.get_runtime_context().gcs_address)

    def answer(self, asked: Any, within_s: float = math.inf) -> Any:  # noqa: ANN401 - Ray's
        """Return what Ray was asked for, which it would await in vain without its head.

        Raises:
            ClusterLostError: see ``check``.
            ray.exceptions.RayError: what was asked for ended in it, or did not come in time.
        """
        end_s = time.monotonic() + within_s
        while not ray.wait([asked], timeout=_LOOK_S)[0] and time.monotonic() < end_s:
            self.check()
        return ray.get(asked, timeout=0)

    def check(self) -> None:
        """Return once the head answers. Only then does Ray's list of nodes come in time.

        Raises:
            ClusterLostError: it has been silent for too long, or has given up this node.
        """
        end_s = time.monotonic() + _SILENCE_S
        while (error := self._refusal()) is not None:
            if time.monotonic() >= end_s:
                raise ClusterLostError(
                    f"Ray's head at {self._address} has not answered for {_SILENCE_S:.0f} s "
                    f"({error.strerror or error}); start Ray again unless it is the learner's "
                    "own, then the learner, which resumes"
                ) from error
            time.sleep(_LOOK_S)
        if not nodes_in(""):
            raise ClusterLostError(
                f"Ray has ended on this node, says its head at {self._address}; start Ray again "
                "unless it is the learner's own, then the learner, which resumes"
            )

    def _refusal(self) -> OSError | None:
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), _ANSWER_S).close()
        except OSError as error:
            return error
        return None


def _join(address: str) -> bool:
    """Join a Ray that runs; False where "auto" finds none on this machine."""
    _check_that_it_answers(address)
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": _inherited("${PYTHONPATH}")},
            log_to_driver=True,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address == "auto" and isinstance(error, ConnectionError):
            logger.info("no Ray runs on this machine: starting one for this learner alone")
            return False
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"ray.address {address!r}: cannot be joined: {reason}") from error
    return True


def _check_that_it_answers(address: str) -> None:
    """Find out what Ray would try for minutes, and then end this process for."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto", or left to Ray
    try:
        socket.create_connection((host, int(port)), _ANSWER_S).close()
    except OSError as error:
        raise TransientError(
            f"ray.address {address!r} does not answer: {error.strerror or error}; is the head up?"
        ) from error


def _start(config: LearnerConfig) -> None:
    # Ray runs its workers at niceness 15; beside a simulated fleet training would starve.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Not as a runtime environment: the workers that Ray starts in advance have none, and would
    # never be used. Telling Ray the node's address keeps it from probing a public one to find its
    # own; "local" keeps it from joining whatever else runs on this machine.
    with _environment(_inherited(os.environ.get("PYTHONPATH", ""))):
        ray.init(
            address="local",
            num_cpus=os.cpu_count(),
            resources=dict.fromkeys(places_of(config), 1),
            include_dashboard=config.ray.dashboard,
            object_store_memory=config.ray.object_store_bytes,
            _node_ip_address="127.0.0.1",
            log_to_driver=True,
        )


def _inherited(paths: str) -> dict[str, str]:
    """Return what actors inherit: this project as it stands here, before a node's own paths."""
    root = Path(__file__).resolve().parent.parent
    return {"PYTHONPATH": f"{root}:{paths}".rstrip(":"), "OMP_NUM_THREADS": "1"}


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Have these in the environment of whatever is started within the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
