"""What the process of every actor begins with."""

from __future__ import annotations

import logging
import os
import threading
import time

from learner.logs import configure_logs
from learner.placement import name_of, nodes_in
from learner.provenance import check_versions, package_versions

logger = logging.getLogger(__name__)

_LOOK_S = 1.0


def begin_actor(log_level: str, software: dict[str, str]) -> None:
    """Begin to log, end with the node; refuse one that came, or came back, with other software.

    Args:
        log_level: of the learner.
        software: ``package_versions`` of the process that the learner was started in.

    Raises:
        ConfigurationError: with what differs here; it ends the learner.
    """
    configure_logs(log_level)
    threading.Thread(target=_end_with, args=[os.getppid()], name="node", daemon=True).start()
    (node,) = nodes_in("")
    check_versions(package_versions(), software, node=name_of(node))


def _end_with(raylet: int) -> None:
    """End this process when the raylet that started it has ended.

    Ray would leave it with its port and its store for a minute, in the way of whoever comes next.
    """
    while os.getppid() == raylet:
        time.sleep(_LOOK_S)
    logger.critical("Ray has ended on this node, and this process ends with it")
    os._exit(1)
