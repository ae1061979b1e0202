"""Where each known arm stands beside the bin and parks, if nothing else is configured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from robot_agent.arms.arm_options import Parking
from robot_agent.kinematics.arm_model import Mount


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmPlace:
    """Where an arm stands beside the bin, and parks out of every camera's view."""

    mount: Mount
    parking: Parking


ARM_PLACES: Mapping[str, ArmPlace] = {
    "so101": ArmPlace(
        mount=Mount(y_m=0.20, z_m=0.12, yaw_rad=-math.pi / 2),
        parking=Parking(x_m=0.20, y_m=0.20, z_m=0.20),
    ),
    "wx200": ArmPlace(
        mount=Mount(y_m=0.25, z_m=0.05, yaw_rad=-math.pi / 2),
        parking=Parking(x_m=0.28, y_m=0.20, z_m=0.25),
    ),
}
"""By the name of the arm's model. On the bin's long side, raised: upright, each reaches the whole
bin from there; simulated arms and real ones stand alike."""
