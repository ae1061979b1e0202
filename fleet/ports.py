"""TCP ports of this machine that nothing listens on."""

from __future__ import annotations

import itertools
import random
import socket

from protocol.errors import ConfigurationError

_PORTS = range(20_000, 32_768)
"""Above those that Ray gives its workers, below those that Linux gives outgoing connections."""


def free_ports(count: int) -> list[int]:
    """Return TCP ports that nothing listens on now, and that Linux gives to no outgoing connection.

    Raises:
        ConfigurationError: there are not so many.
    """
    free = (port for port in random.sample(_PORTS, len(_PORTS)) if is_free(port))
    found = list(itertools.islice(free, count))
    if len(found) < count:
        raise ConfigurationError(
            f"{count} free TCP ports are needed; this machine has {len(found)}"
        )
    return found


def is_free(port: int) -> bool:
    """Say whether nothing listens on a TCP port of this machine now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
