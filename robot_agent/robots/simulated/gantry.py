"""What carries the simulated hand: the Carrier protocol, and a gantry that reaches everywhere."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose
from robot_agent.robots.simulated.motion import STEPS_PER_SETPOINT, plan_line
from robot_agent.robots.simulated.scene import Scene

PARK_POSITION = np.array([0.03, 0.0, 0.40, 0.0])
"""Where the gantry's hand is out of every camera's view: x, y, z (metres), yaw (radians)."""
SETTLE_BLOCK = 3
SETTLE_BLOCKS = 20

_REST_SPEED = np.array([0.02, 0.02, 0.02, 0.2, 0.01])
"""Of x, y, z (m/s), yaw (rad/s) and a finger (m/s): below it the hand counts as still."""
_AT_TARGET = np.array([0.001, 0.001, 0.001, 0.02])


class Carrier(Protocol):
    """Moves the hand of whatever scene it is given; positions are float64[4]: x, y, z, yaw."""

    @property
    def clearance_m(self) -> float:
        """Finger-tip height above which the hand may move sideways freely."""
        ...

    @property
    def parked(self) -> NDArray[np.float64]:
        """Where the hand is out of every camera's view."""
        ...

    def measured(self, scene: Scene) -> NDArray[np.float64]:
        """Return where the carrier's own sensors say that the hand is."""
        ...

    def go(self, scene: Scene, target: NDArray[np.float64], *, carrying: bool) -> None:
        """Move in a straight line and wait until the hand rests, at ``target`` or blocked.

        Args:
            scene: at present.
            target: its yaw is no more than half a turn from the hand's.
            carrying: move gently, so that what is held is not shaken out of the grip.
        """
        ...

    def park(self, scene: Scene, *, yaw_rad: float, carrying: bool) -> None:
        """Bring the hand, which is at ``clearance_m`` or above, out of view.

        It keeps ``yaw_rad`` where the carrier leaves it a choice.
        """
        ...

    def hold(self, scene: Scene) -> None:
        """Hold still where the hand is."""
        ...

    def nearest_reachable(self, pose: GripperPose) -> GripperPose:
        """Return ``pose`` where it can be had, else a pose near it that can."""
        ...


class Gantry:
    """Slides along x, y and z, and turns about z."""

    clearance_m = 0.07
    parked = PARK_POSITION

    def __init__(self, gain: float) -> None:
        """Begin; ``gain`` is the stiffness of the position control relative to nominal."""
        self._gain = gain

    def measured(self, scene: Scene) -> NDArray[np.float64]:
        """See Carrier; a gantry measures without error."""
        return scene.hand_position()

    def go(self, scene: Scene, target: NDArray[np.float64], *, carrying: bool) -> None:
        """See Carrier."""
        start = scene.hand_position()
        for setpoint in plan_line(start, target, gain=self._gain, carrying=carrying):
            scene.data.ctrl[:4] = setpoint
            scene.advance(STEPS_PER_SETPOINT)
        scene.data.ctrl[:4] = target
        if not (settle(scene) and (np.abs(scene.hand_position() - target) < _AT_TARGET).all()):
            # Blocked: hold here instead of pressing on whatever is in the way.
            self.hold(scene)

    def park(self, scene: Scene, *, yaw_rad: float, carrying: bool) -> None:
        """See Carrier."""
        self.go(scene, np.array([*PARK_POSITION[:3], yaw_rad]), carrying=carrying)

    def hold(self, scene: Scene) -> None:
        """See Carrier."""
        scene.data.ctrl[:4] = scene.hand_position()

    def nearest_reachable(self, pose: GripperPose) -> GripperPose:
        """See Carrier."""
        return pose


def settle(scene: Scene) -> bool:
    """Let time pass until hand and fingers rest, or for a quarter of a second; do they?"""
    for _ in range(SETTLE_BLOCKS):
        scene.advance(SETTLE_BLOCK)
        if is_at_rest(scene):
            return True
    return False


def is_at_rest(scene: Scene) -> bool:
    """Say whether the hand is still, and the jaw too: when an object slips out, it is not."""
    return bool((np.abs(scene.data.qvel[:5]) < _REST_SPEED).all())
