"""Joint limits and offsets from motors that a person moves through their range by hand.

The limp arm is put into the pose in which its model's joints stand at zero, then moved to both
ends of every joint. Where the stops are is known from the model, so that the middle between them
tells a joint's zero more exactly than any pose that is struck by eye.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from protocol.errors import ConfigurationError
from robot_agent.arms.clock import Clock
from robot_agent.arms.joint_calibration import JointScale
from robot_agent.arms.servo_group import ServoGroup
from robot_agent.calibrating.guide import Guide
from robot_agent.kinematics.arm_model import Joint

logger = logging.getLogger(__name__)

CYCLE_S = 0.02
WRAP_RAD = math.pi
"""A reading that changes by more in one cycle went over the end of the motor's scale."""
SPAN_TOLERANCE_RAD = 0.35
"""A range that was found to be so much wider or narrower than the model's is another range."""
MARGIN_RAD = 0.02
"""The arm stays so far from its stops."""


@runtime_checkable
class CentrableServos(Protocol):
    """Motors that can be told where the middle of their scale is, and keep it."""

    def make_middle(self) -> None:
        """Let every motor read zero where it stands now; the motors are limp."""
        ...


@dataclass(frozen=True, kw_only=True)
class RecordedRanges:
    """What the motors read; all arrays are float64[N] in the order of the joints."""

    posed_rad: NDArray[np.float64]
    """In the model's zero pose, as well as a person can strike it."""
    lowest_rad: NDArray[np.float64]
    highest_rad: NDArray[np.float64]
    wrapped: NDArray[np.bool_]
    """Whether the reading went over the end of the motor's scale."""


def record_ranges(
    servos: ServoGroup,
    names: Collection[str],
    guide: Guide,
    clock: Clock,
    *,
    forget: Callable[[], None],
) -> RecordedRanges:
    """Let the arm go limp and follow what a person does with it.

    Args:
        servos: the joints' motors.
        names: of the joints, in the same order.
        guide: tells and asks the person.
        clock: for every wait.
        forget: see ``centre``.

    Raises:
        RobotError: a motor does not answer.
    """
    guide.confirm(
        "Hold the arm: its motors go limp now, and it would fall. Nothing will move by itself."
    )
    servos.set_torque(False, 1.0)
    guide.confirm(
        "Put every joint in the middle of its range: the pose in which the arm's model stands at "
        "zero (docs/calibration.md describes it for each arm)."
    )
    centre(servos, forget)
    posed = servos.read().positions_rad
    done = guide.until_done(
        "Move one joint after the other slowly to both of its ends, as far as it goes by itself."
    )
    last = lowest = highest = posed
    wrapped = np.zeros(len(posed), np.bool_)
    while not done():
        now = servos.read().positions_rad
        wrapped |= np.abs(now - last) > WRAP_RAD
        last, lowest, highest = now, np.minimum(lowest, now), np.maximum(highest, now)
        guide.show(
            [
                f"  {name:16} {low:+6.2f} … {here:+6.2f} … {high:+6.2f} rad"
                for name, low, here, high in zip(names, lowest, now, highest, strict=True)
            ]
        )
        clock.sleep(CYCLE_S)
    return RecordedRanges(posed_rad=posed, lowest_rad=lowest, highest_rad=highest, wrapped=wrapped)


def centre(servos: ServoGroup, forget: Callable[[], None]) -> None:
    """Let limp motors that can read zero where they stand now; others stay as they are.

    Args:
        servos: the motors.
        forget: called before: whatever was measured from their old zeros is wrong from then on,
            also if nothing better is ever measured.
    """
    if isinstance(servos, CentrableServos):
        forget()
        servos.make_middle()


def joint_scales(
    joints: tuple[Joint, ...], recorded: RecordedRanges, reverse: Collection[str] = ()
) -> tuple[JointScale, ...]:
    """Return the scales that the readings tell.

    A joint without stops, which turned further than its model's, keeps the zero that it was given
    by hand and the model's limits.

    Args:
        joints: of the arm's model.
        recorded: what the motors read.
        reverse: names of joints whose motors count the other way than the model.

    Raises:
        ConfigurationError: a joint did not reach both of its ends.
    """
    return tuple(
        _scale(
            joint,
            direction=-1 if joint.name in reverse else 1,
            posed_rad=float(recorded.posed_rad[index]),
            ends_rad=(float(recorded.lowest_rad[index]), float(recorded.highest_rad[index])),
            is_open_ended=bool(recorded.wrapped[index]),
        )
        for index, joint in enumerate(joints)
    )


def _scale(
    joint: Joint,
    *,
    direction: int,
    posed_rad: float,
    ends_rad: tuple[float, float],
    is_open_ended: bool,
) -> JointScale:
    span_rad = ends_rad[1] - ends_rad[0]
    expected_rad = joint.upper_rad - joint.lower_rad
    if span_rad < expected_rad - SPAN_TOLERANCE_RAD:
        raise ConfigurationError(
            f"joint {joint.name}: moved through {span_rad:.2f} of {expected_rad:.2f} rad; "
            "calibrate again, and move it to both of its ends"
        )
    zero_rad, lower_rad, upper_rad = posed_rad, joint.lower_rad, joint.upper_rad
    if is_open_ended or span_rad > expected_rad + SPAN_TOLERANCE_RAD:
        logger.warning(
            "joint %s: turned by %.2f rad, its model by %.2f: its zero is where it was put by hand",
            *(joint.name, span_rad, expected_rad),
        )
    else:
        middle_rad = (joint.lower_rad + joint.upper_rad) / 2
        zero_rad = (ends_rad[0] + ends_rad[1]) / 2 - direction * middle_rad
        half_rad = min(span_rad, expected_rad) / 2
        lower_rad, upper_rad = middle_rad - half_rad, middle_rad + half_rad
    return JointScale(
        name=joint.name,
        direction=-1 if direction < 0 else 1,
        zero_rad=zero_rad,
        lower_rad=lower_rad + MARGIN_RAD,
        upper_rad=upper_rad - MARGIN_RAD,
    )
