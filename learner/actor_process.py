"""What the process of every actor begins with."""

from __future__ import annotations

from learner.logs import configure_logs
from learner.placement import name_of, nodes_in
from learner.provenance import check_versions, package_versions


def begin_actor(log_level: str, software: dict[str, str]) -> None:
    """Begin to log; refuse a node that came, or came back, with other software.

    Args:
        log_level: of the learner.
        software: ``package_versions`` of the process that the learner was started in.

    Raises:
        ConfigurationError: with what differs here; it ends the learner.
    """
    configure_logs(log_level)
    (node,) = nodes_in("")
    check_versions(package_versions(), software, node=name_of(node))
