"""Joint limits and offsets from motors that a person moves through their range by hand.

The limp arm is put into the pose in which its model's joints stand at zero, then moved to both
ends of every joint. Where the stops are is known from the model, so that the middle between them
tells a joint's zero more exactly than any pose that is struck by eye.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from protocol.errors import ConfigurationError, RobotError
from robot_agent.arms.clock import Clock
from robot_agent.arms.joint_calibration import JointScale
from robot_agent.arms.servo_group import ServoGroup
from robot_agent.calibrating.guide import Guide
from robot_agent.kinematics.arm_model import Joint

CYCLE_S = 0.02
WRAP_RAD = math.pi
"""A reading that changes by more in one cycle went over the end of the motor's scale."""
SPAN_TOLERANCE_RAD = 0.35
"""A range that was found to be so much wider or narrower than the model's is another range."""
MARGIN_RAD = 0.02
"""The arm stays so far from its stops."""
CENTRED_RAD, CENTRED_WITHIN_S = 0.05, 1.0
"""A motor that got a new zero soon reads as little: the hand that holds the arm may tremble."""


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
    names: Sequence[str],
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
        SafetyFault: the robot was stopped meanwhile.
        RobotError: a motor does not answer, or does not take its new zero.
    """
    guide.confirm(
        "Hold the arm: its motors go limp now, and it would fall. Nothing will move by itself."
    )
    servos.set_torque(False, 1.0)
    guide.confirm(
        "Put every joint in the middle of its range: the pose in which the arm's model stands at "
        "zero (docs/calibration.md describes it for each arm)."
    )
    centre(servos, names, clock, forget=forget)
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


def centre(
    servos: ServoGroup, names: Sequence[str], clock: Clock, *, forget: Callable[[], None]
) -> None:
    """Let limp motors that can read zero where they stand now; others stay as they are.

    Args:
        servos: the motors.
        names: of what they move, in the same order.
        clock: for every wait.
        forget: called before: whatever was measured from their old zeros is wrong from then on,
            also if nothing better is ever measured.

    Raises:
        RobotError: a motor does not answer, or does not take its new zero.
    """
    if not isinstance(servos, CentrableServos):
        return
    forget()
    servos.make_middle()
    # The first readings may still be from before: a zero by one of them is wrong by any angle.
    end_s = clock.monotonic_s() + CENTRED_WITHIN_S
    while (np.abs(readings_rad := servos.read().positions_rad) > CENTRED_RAD).any():
        if clock.monotonic_s() >= end_s:
            worst = int(np.abs(readings_rad).argmax())
            raise RobotError(
                f"{names[worst]}: its motor got a new zero where it stands, and reads "
                f"{readings_rad[worst]:+.2f} rad after {CENTRED_WITHIN_S:g} s (limit "
                f"{CENTRED_RAD:g} rad): hold the arm still, and calibrate again"
            )
        clock.sleep(CYCLE_S)


def joint_scales(
    joints: tuple[Joint, ...],
    recorded: RecordedRanges,
    reverse: Collection[str] = (),
    endless: Collection[str] = (),
) -> tuple[JointScale, ...]:
    """Return the scales that the readings tell.

    Args:
        joints: of the arm's model.
        recorded: what the motors read.
        reverse: names of joints whose motors count the other way than the model.
        endless: names of joints without stops: they keep the zero that they were given by hand and
            the model's limits.

    Raises:
        ConfigurationError: a joint did not reach both of its ends, or turned further than its
            model can.
    """
    return tuple(
        _scale(
            joint,
            direction=-1 if joint.name in reverse else 1,
            posed_rad=float(recorded.posed_rad[index]),
            ends_rad=(float(recorded.lowest_rad[index]), float(recorded.highest_rad[index])),
            has_wrapped=bool(recorded.wrapped[index]),
            is_endless=joint.name in endless,
        )
        for index, joint in enumerate(joints)
    )


def _scale(
    joint: Joint,
    *,
    direction: int,
    posed_rad: float,
    ends_rad: tuple[float, float],
    has_wrapped: bool,
    is_endless: bool,
) -> JointScale:
    zero_rad, lower_rad, upper_rad = posed_rad, joint.lower_rad, joint.upper_rad
    if not is_endless:
        _check_span(joint, ends_rad, has_wrapped=has_wrapped)
        middle_rad = (joint.lower_rad + joint.upper_rad) / 2
        zero_rad = (ends_rad[0] + ends_rad[1]) / 2 - direction * middle_rad
        half_rad = min(ends_rad[1] - ends_rad[0], joint.upper_rad - joint.lower_rad) / 2
        lower_rad, upper_rad = middle_rad - half_rad, middle_rad + half_rad
    return JointScale(
        name=joint.name,
        direction=-1 if direction < 0 else 1,
        zero_rad=zero_rad,
        lower_rad=lower_rad + MARGIN_RAD,
        upper_rad=upper_rad - MARGIN_RAD,
    )


def _check_span(joint: Joint, ends_rad: tuple[float, float], *, has_wrapped: bool) -> None:
    """See that a joint with stops moved through its model's range, and no other.

    Raises:
        ConfigurationError: it did not.
    """
    span_rad = ends_rad[1] - ends_rad[0]
    expected_rad = joint.upper_rad - joint.lower_rad
    moved = f"joint {joint.name}: moved through {span_rad:.2f} of {expected_rad:.2f} rad"
    if span_rad < expected_rad - SPAN_TOLERANCE_RAD:
        raise ConfigurationError(f"{moved}; calibrate again, and move it to both of its ends")
    if has_wrapped or span_rad > expected_rad + SPAN_TOLERANCE_RAD:
        over = ", and its reading went over the end of its motor's scale" if has_wrapped else ""
        raise ConfigurationError(
            f"{moved}{over}; calibrate again, and begin with every joint in the middle of its "
            f"range. If this one has no stops, add --endless {joint.name}: its zero is then where "
            "you put it by hand"
        )
