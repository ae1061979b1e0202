"""What can break while an arm moves, how it is mended, and how soon the arm was safe."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from robot_agent.safety.stop_latch import STOP_FILE
from tests.emulated_arms.robot_cell import SAFETY, RobotCell
from tests.emulated_arms.so101_process import ArmProcess
from tests.waiting import wait_until

SAFE_WITHIN_S = 20.0
"""A deadline, not what it takes: the machine may be busy."""
HELD_TORQUE, GRIP_TORQUE = SAFETY["hold_torque"] + 1e-3, SAFETY["max_grip"] + 1e-3


@dataclass(frozen=True, kw_only=True)
class ArmFault:
    """One thing that breaks."""

    name: str
    strike: Callable[[RobotCell], object]
    says: str
    """Words of the agent's, or of its guard's."""
    mend: Callable[[RobotCell], object] = lambda _: None
    status: int | None = None
    """With which the agent ends; None: it goes on grasping."""
    begin: Callable[[RobotCell], None] = RobotCell.resume
    """Has the arm in the motion in which it breaks."""

    def __str__(self) -> str:
        return self.name


def _orders(*orders: str) -> Callable[[RobotCell], object]:
    return lambda cell: [cell.arm.order(order) for order in orders]


PASSING = (
    ArmFault(
        name="cable out",
        strike=_orders("unplug"),
        mend=_orders("plug"),
        says="the port is gone",
    ),
    ArmFault(
        name="a servo answers garbage",
        strike=_orders("is_babbling 3 1"),
        mend=_orders("is_babbling 3 0"),
        says="servo 3 did not answer",
    ),
    ArmFault(
        name="overload",
        strike=_orders("strains 2 1"),
        says="attempt aborted: robot-1: motor shoulder_lift reports: overload",
    ),
)
KILLED = ArmFault(
    name="kill -9",
    strike=lambda cell: cell.agent.kill(),
    says="its agent died; the arm holds still",
    status=-signal.SIGKILL,
)
STOPPED_BY_FILE = ArmFault(
    name="file STOP",
    strike=lambda cell: (cell.state / STOP_FILE).touch(),
    says="stopped by the file STOP",
    status=3,
)
SIGNALLED = ArmFault(
    name="SIGUSR1",
    strike=lambda cell: cell.agent.send_signal(signal.SIGUSR1),
    says="stopped by the signal SIGUSR1",
    status=3,
)
FINAL = (
    KILLED,
    STOPPED_BY_FILE,
    SIGNALLED,
    ArmFault(
        name="over-temperature",
        strike=_orders("temperature 4 65"),
        mend=_orders("temperature 4 30"),
        says="motor wrist_flex is at 65 degrees C",
        status=3,
    ),
    ArmFault(
        name="overload for good",
        strike=_orders("strains 2 1000"),
        mend=_orders("strains 2 0"),
        says="overload; 3 times in succession",
        status=3,
    ),
    ArmFault(
        name="brown-out",
        strike=_orders("brown_out"),
        says="switched itself off",
        status=3,
    ),
)
WHILE_CALIBRATING = tuple(
    replace(fault, name=f"{fault} while calibrating", begin=RobotCell.calibrate)
    for fault in (STOPPED_BY_FILE, SIGNALLED)
)


def strike(cell: RobotCell, fault: ArmFault) -> float:
    """Let it happen in the next motion; return when."""
    fault.begin(cell)
    now_s = time.monotonic()
    fault.strike(cell)
    return now_s


def rest_after_s(cell: RobotCell, struck_s: float) -> float:
    """Wait until the arm stands still where it is told to be; return how long that took."""
    later = lambda: [one for one in cell.arm.history().rests_s if one > struck_s]  # noqa: E731
    wait_until(lambda: bool(later()), "the arm stands still", SAFE_WITHIN_S)
    return later()[0] - struck_s


def hold_after_s(cell: RobotCell, fault: ArmFault, struck_s: float) -> float:
    """Wait for the agent's end; return how long it took to the safe state, which must last.

    That is: all joints on, still, with the place where they are as their goal, and with no more
    than the torque of holding; the gripper on, with no more than that of gripping.
    """
    assert cell.agent.wait(SAFE_WITHIN_S) == fault.status
    wait_until(lambda: cell.latch.read() is not None, "the robot is kept stopped")
    wait_until(lambda: is_held(cell.arm), "the arm is held", SAFE_WITHIN_S)
    history = cell.arm.history()
    return max(history.rests_s[-1], history.torques[-1][0]) - struck_s


def is_held(arm: ArmProcess) -> bool:
    """Return whether an arm is in its safe state, by its servos' registers."""
    history = arm.history()
    is_limited = 0 < history.torque <= HELD_TORQUE and 0 < history.jaw_torque <= GRIP_TORQUE
    return history.is_at_rest and is_limited
