"""TCP ports of this machine, as whoever wants to listen finds them."""

from __future__ import annotations

import socket


def bind_error(port: int, host: str = "127.0.0.1") -> OSError | None:
    """Return why nobody can listen on a port of this machine now; None when one can.

    Nothing listens meanwhile, so that no peer is met by what is not there to serve it.

    Args:
        port: what to try.
        host: a numeric address of this machine; a name is not looked up.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As those do who listen later: what is left of closed connections keeps no port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None
