"""Whether the cluster has what a configuration asks for, found out before anything starts."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import ray

from learner.accelerators import with_device
from learner.cluster import Head
from learner.config import LearnerConfig
from learner.placement import Node, live_nodes, name_of, nodes_in, places_of
from learner.provenance import check_versions, package_versions
from protocol.errors import ConfigurationError

logger = logging.getLogger(__name__)

_POLL_S = 1.0
_ANSWER_S = 120.0
"""A node's first task starts a process there, on an SD card perhaps."""


def await_cluster(config: LearnerConfig, head: Head, stopping: threading.Event) -> bool:
    """Wait for nodes in every place, then look whether each can do its part.

    Returns False when ``stopping`` was set meanwhile.

    Raises:
        ClusterLostError: the head went meanwhile.
        ConfigurationError: a place without a node, several nodes for what has one disk, a node with
            fewer cores than threads are asked for, or with other software than this one, or
            more workers than can train, or than there are GPUs for.
    """
    if not _await_places(config, head, stopping):
        return False
    _check_disks(config)
    _check_cores(config)
    with_device(config)
    if config.training.workers > 1:
        # It loads torch, which one worker needs in its own process alone.
        from learner.training.workers import check_workers

        check_workers(config)
    _check_software(places_of(config), head)
    return True


def _await_places(config: LearnerConfig, head: Head, stopping: threading.Event) -> bool:
    end_s = time.monotonic() + config.ray.nodes_within_s
    said = False
    while missing := _missing_places(config):
        names = ", ".join(sorted(missing))
        if time.monotonic() >= end_s:
            raise ConfigurationError(
                f"no node of the cluster is in place {names} after "
                f"{config.ray.nodes_within_s:.0f} s; there are {_described()}; start one with "
                f"ray start --resources '{{\"{min(missing)}\": 1}}'"
            )
        if not said:
            logger.info("waiting for nodes in place %s; there are %s", names, _described())
            said = True
        if stopping.wait(_POLL_S):
            return False
        head.check()
    if absent := sorted(place for place in places_of(config) if not nodes_in(place)):
        logger.warning("no node is in place %s: its gateway starts when one is", ", ".join(absent))
    return True


def _missing_places(config: LearnerConfig) -> set[str]:
    """Return the places without a node, without which the learner cannot start.

    One gateway is enough to start with: robots of another one, whose node is gone, go to it.
    """
    missing = {place for place in places_of(config) if not nodes_in(place)}
    is_served = any(one.place not in missing for one in config.gateways)
    return missing & {config.releases.place, config.training.place} if is_served else missing


def _check_disks(config: LearnerConfig) -> None:
    """Started anew on a second node, these two would begin again with an empty folder there."""
    gateways = [("gateway", one.place) for one in config.gateways]
    for part, place in [*gateways, ("releases", config.releases.place)]:
        nodes = nodes_in(place)
        if len(nodes) > 1:
            names = ", ".join(map(name_of, nodes))
            raise ConfigurationError(
                f"{part}.place {place!r} has {len(nodes)} nodes ({names}) and only one disk: leave "
                "the place to one of them"
            )


def _check_cores(config: LearnerConfig) -> None:
    wanted = config.training.threads
    for node in nodes_in(config.training.place):
        cores = int(node["Resources"].get("CPU", 0))
        if wanted > cores:
            raise ConfigurationError(
                f"training.threads {wanted} exceeds the {cores} cores of node {name_of(node)}"
            )


def _check_software(places: set[str], head: Head) -> None:
    """Compare what is installed here with every other node of these places."""
    own = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: node for place in places for node in nodes_in(place)}
    answers = {
        node_id: _versions_on(node_id) for node_id in nodes if node_id != own
    }  # all are under way before the first is waited for
    for node_id, answer in answers.items():
        _compare(nodes[node_id], head, answer)


def _versions_on(node_id: str) -> Any:  # noqa: ANN401 - Ray's reference
    there = {"ray.io/node-id": node_id}
    task = ray.remote(num_cpus=0, max_retries=0, label_selector=there)(package_versions)
    return task.remote()


def _compare(node: Node, head: Head, answer: Any) -> None:  # noqa: ANN401 - Ray's reference
    name = name_of(node)
    try:
        there: dict[str, str] = head.answer(answer, _ANSWER_S)
    except ray.exceptions.RayError as error:
        if node["NodeID"] not in {one["NodeID"] for one in live_nodes()}:
            # It had gone before, which Ray notices only after several seconds. What runs there
            # waits for it, and looks again when it is back.
            logger.warning("node %s is gone: what runs there starts when it is back", name)
            return
        reason = str(error).strip().splitlines()[-1]
        raise ConfigurationError(f"node {name} cannot run the learner: {reason}") from error
    check_versions(there, package_versions(), node=name)


def _described() -> str:
    return ", ".join(f"{name_of(node)} ({_places(node)})" for node in live_nodes())


def _places(node: Node) -> str:
    known = {"CPU", "GPU", "memory", "object_store_memory"}
    names = [name for name in node["Resources"] if name not in known and ":" not in name]
    return ", ".join(sorted(names)) or "no place"
