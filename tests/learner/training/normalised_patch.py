"""A network with batch normalisation that learns in seconds, as ``levine2016`` does not."""

from __future__ import annotations

from torch import nn

from learner.networks import GraspNetwork, build_network
from learner.networks.patch import PatchNetwork
from tests.learner.spot_task import SIDE_PX


def normalised_patch() -> GraspNetwork:
    """Return the patch network with two layers normalised; it has dropout as well."""
    network = build_network("patch", height_px=SIDE_PX, width_px=SIDE_PX)
    assert isinstance(network, PatchNetwork)
    head = network.head
    for name in ("conv1", "conv3"):
        convolution = getattr(head, name)
        setattr(head, name, nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels)))
    return network
