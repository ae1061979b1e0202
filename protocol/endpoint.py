"""What an endpoint must look like: to connect to, or to listen at."""

from __future__ import annotations

import re

_ENDPOINT = re.compile(r"tcp://(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")


_LISTENER = re.compile(r"tcp://(?P<host>[\w.-]+|\*|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5}|\*)")


def is_listener(text: str) -> bool:
    """Say whether ``text`` says where to listen: an endpoint, "*" for any address or port."""
    found = _LISTENER.fullmatch(text)
    return found is not None and (found["port"] == "*" or int(found["port"]) <= 65535)


def is_endpoint(text: str) -> bool:
    """Say whether ``text`` is of the form ``tcp://host:port``."""
    found = _ENDPOINT.fullmatch(text)
    return found is not None and 1 <= int(found["port"]) <= 65535
