"""What the learner's parts on this machine need, looked at before Ray is there to start them.

Ray takes seconds to start, and says what is wrong with a part in many lines. A part finds out by
itself all the same, when it starts: between the two somebody else may have come.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

from learner.cluster import address_of
from learner.config import GatewayConfig, LearnerConfig
from learner.store.writer_lock import check_no_writer
from protocol.errors import ConfigurationError
from protocol.ports import bind_error
from protocol.security import load_curve_keys, load_release_secret
from protocol.sockets import refusal_to_listen

ENDING_S = 5.0
"""How long ports and stores may still be taken: the parts of a learner that was killed look every
second whether they must end."""
_POLL_S = 0.1
_LISTENER = re.compile(r"tcp://(?P<host>\*|[\d.]+|localhost|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")
"""An endpoint that this machine can be asked about without looking up a name."""
_NUMERIC = {"*": "0.0.0.0", "localhost": "127.0.0.1"}  # noqa: S104 - as it was configured


def check_own_parts(config: LearnerConfig) -> None:
    """Return if keys, ports and stores of the parts on this machine will do.

    Raises:
        ConfigurationError: a key is missing, open to others, or no such key; a port is in use, or
            another process writes to a store, and still does after ENDING_S.
    """
    _check_keys(config)
    end_s = time.monotonic() + ENDING_S
    for check in _vacancies(config):
        _await(check, end_s)


def _check_keys(config: LearnerConfig) -> None:
    releases, training = config.releases.place, config.training.place
    if any(_is_here(config, one) for one in (releases, *(own.place for own in config.gateways))):
        load_curve_keys(config.keys.server_secret)
    if any(_is_here(config, one) for one in (releases, training)):
        load_release_secret(config.keys.release_secret)


def _vacancies(config: LearnerConfig) -> Iterator[Callable[[], None]]:
    """Yield what raises a ConfigurationError while something that a part needs is taken."""
    for gateway in config.gateways:
        if _is_here(config, gateway.place):
            yield from _vacancies_of(gateway)
    if _is_here(config, config.releases.place):
        yield lambda: check_listener(config.releases.bind)


def _vacancies_of(gateway: GatewayConfig) -> Iterator[Callable[[], None]]:
    yield lambda: check_no_writer(gateway.store)
    yield lambda: check_listener(gateway.bind)
    if gateway.metrics.bind:
        yield lambda: check_listener(f"tcp://{gateway.metrics.bind}")


def _is_here(config: LearnerConfig, place: str) -> bool:
    """Say whether a place is surely on this machine; a Ray of the learner's own has no other."""
    return not place or not address_of(config)


def check_listener(endpoint: str) -> None:
    """Return if one can listen at an endpoint, or if only listening will tell.

    Raises:
        ConfigurationError: the port is in use, or the address is not this machine's.
    """
    found = _LISTENER.fullmatch(endpoint)
    if found is None or not 0 < int(found["port"]) <= 65_535:
        return
    host = found["host"].strip("[]")
    error = bind_error(int(found["port"]), _NUMERIC.get(host, host))
    if error is not None:
        raise refusal_to_listen(endpoint, error) from error


def _await(check: Callable[[], None], end_s: float) -> None:
    while True:
        try:
            check()
        except ConfigurationError:
            if time.monotonic() >= end_s:
                raise
            time.sleep(_POLL_S)
        else:
            return
