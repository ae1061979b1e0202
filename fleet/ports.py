"""TCP ports of this machine that nothing listens on."""

from __future__ import annotations

import itertools
import random

from protocol.errors import ConfigurationError
from protocol.ports import bind_error

_PORTS = range(20_000, 32_768)
"""Above those that Ray gives its workers, below those that Linux gives outgoing connections."""


def free_ports(count: int) -> list[int]:
    """Return TCP ports that nothing listens on now, and that Linux gives to no outgoing connection.

    Raises:
        ConfigurationError: there are not so many.
    """
    free = (port for port in random.sample(_PORTS, len(_PORTS)) if bind_error(port) is None)
    found = list(itertools.islice(free, count))
    if len(found) < count:
        raise ConfigurationError(
            f"{count} free TCP ports are needed; this machine has {len(found)}"
        )
    return found
