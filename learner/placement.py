"""Which node of a Ray cluster an actor runs on: Ray's custom resources, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ray

from learner.config import LearnerConfig

Node = dict[str, Any]

_SHARE = 0.001
"""What one actor takes of a resource that only says where: a thousand fit on a node."""
_ADDRESS = "node:"
"""Every node has a resource of its own: this and its address."""
_HEAD = "node:__internal_head__"


def in_place(place: str) -> dict[str, float]:
    """Return the resources that tie what asks for them to a place; "" is this process's node."""
    return {place or own_node(): _SHARE}


def actor_options(place: str) -> dict[str, Any]:
    """Return the options that tie an actor to a place, also when Ray starts it anew.

    Ray waits for the node if it is gone: a gateway that came up elsewhere would begin a second
    store while the first one lies on a disk that comes back.
    """
    return {"num_cpus": 0, "max_restarts": -1, "resources": in_place(place)}


def with_places(config: LearnerConfig) -> LearnerConfig:
    """Return the configuration with the name of this process's node where it names no place."""
    here = own_node()
    return replace(
        config,
        gateway=tuple(replace(one, place=one.place or here) for one in config.gateways),
        releases=replace(config.releases, place=config.releases.place or here),
        training=replace(config.training, place=config.training.place or here),
    )


def is_here(place: str) -> bool:
    """Say whether this process's node is in a place; "" is always here."""
    return not place or any(node["Resources"].get(place) for node in nodes_in(""))


def own_node() -> str:
    """Return the resource that only this process's node has."""
    (node,) = nodes_in("")
    (name,) = (one for one in node["Resources"] if one.startswith(_ADDRESS) and one != _HEAD)
    return str(name)


def nodes_in(place: str) -> list[Node]:
    """Return the nodes that live and are in a place; "" is the node of this process."""
    if place:
        return [node for node in live_nodes() if node["Resources"].get(place)]
    own = ray.get_runtime_context().get_node_id()
    return [node for node in live_nodes() if node["NodeID"] == own]


def name_of(node: Node) -> str:
    """Return what a person and Ray's own tools know a node by."""
    return f"{node['NodeName']} of {node['NodeID'][:8]}"


def live_nodes() -> list[Node]:
    """Return Ray's description of every node that lives."""
    nodes: list[Node] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def places_of(config: LearnerConfig) -> set[str]:
    """Return the places that a configuration names."""
    gateways = {one.place for one in config.gateways}
    return (gateways | {config.releases.place, config.training.place}) - {""}
