"""One file per architecture, all behind the same two graph signatures."""

from learner.networks.base import GraspNetwork
from learner.networks.levine2016 import Levine2016Network
from learner.networks.patch import PatchNetwork

NETWORKS: dict[str, type[GraspNetwork]] = {
    "patch": PatchNetwork,
    "levine2016": Levine2016Network,
}


def build_network(name: str, *, height_px: int, width_px: int) -> GraspNetwork:
    """Return a freshly initialised network. Raises KeyError for an unknown name."""
    return NETWORKS[name](height_px=height_px, width_px=width_px)


__all__ = ["NETWORKS", "GraspNetwork", "Levine2016Network", "PatchNetwork", "build_network"]
