"""What an endpoint that another machine connects to must look like."""

from __future__ import annotations

import re

_ENDPOINT = re.compile(r"tcp://(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")


def is_endpoint(text: str) -> bool:
    """Say whether ``text`` is of the form ``tcp://host:port``."""
    found = _ENDPOINT.fullmatch(text)
    return found is not None and 1 <= int(found["port"]) <= 65535
