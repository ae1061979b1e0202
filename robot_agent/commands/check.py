"""``robot-agent check``: a doctor for one robot."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import tyro

from protocol.configuration import load_toml
from robot_agent.checks.subject import Subject
from robot_agent.config import AgentConfig
from robot_agent.robots.check_result import CheckResult, Verdict

if TYPE_CHECKING:
    from robot_agent.safety.emergency_stop import EmergencyStop

WELL, NOT_WELL, INTERRUPTED = 0, 1, 130
_WIDTH = 100


def check(
    config: Annotated[Path, tyro.conf.arg(metavar="TOML")],
    json: bool = False,
    skip: tuple[Subject, ...] = (),
    move: bool = False,
) -> int:
    """Look at port, motors, camera, reach, network, keys, clock and disk; say what to do.

    Nothing moves, unless --move is given. The robot's agent must not run meanwhile: beside one, arm
    and camera are left out. The learner counts the robot as seen. Ctrl-C makes an arm that moves
    hold still where it is; space, SIGUSR1 and a file STOP in the state folder stop it as they stop
    its agent, at once and until robot-agent resume. Exit status: 0 when the robot can work, also
    with warnings; 1 when something failed; 2 when robot.toml is wrong; 3 when a robot that was to
    move was stopped, before or meanwhile; 130 after Ctrl-C.

    Args:
        config: The robot's configuration file.
        json: For machines: one object with every result.
        skip: What is not looked at.
        move: Open and close the gripper too. For that the arm moves by itself: it rises and swings
            to its parking place, out of the camera's view. Keep clear of it.
    """
    settings = load_toml(config, AgentConfig)
    # What drivers and OpenCV warn of is said as a result.
    logging.basicConfig(level=logging.CRITICAL)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    # Loaded only here: the other commands need none of it.
    from robot_agent.checks.doctor import examine

    results = []
    try:
        with (
            _stoppable(settings, move=move) as emergency,
            closing(examine(settings, skip=skip, emergency=emergency)) as findings,
        ):
            for result in findings:
                if emergency is not None:
                    emergency.check()
                results.append(result)
                if not json:
                    print(_line(result), flush=True)
    except KeyboardInterrupt:
        arm = "if the arm moved, it holds still where it is" if move else "nothing has moved"
        print(f"\nstopped; {arm}", file=sys.stderr)
        return INTERRUPTED
    is_well = all(result.verdict != Verdict.FAIL for result in results)
    if json:
        found = {"robot": settings.name, "well": is_well, "results": results}
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print(_advice(results))
    return WELL if is_well else NOT_WELL


@contextmanager
def _stoppable(settings: AgentConfig, *, move: bool) -> Iterator[EmergencyStop | None]:
    """Heed what stops a robot while it may move.

    Raises:
        SafetyFault: it is stopped already.
    """
    if not move:
        yield None
        return
    from robot_agent.safety.emergency_stop import EmergencyStop
    from robot_agent.safety.stop_latch import StopLatch

    with EmergencyStop(settings.name, StopLatch(settings.state_folder)) as emergency:
        emergency.heed_signal()
        yield emergency
        emergency.check()


def _line(result: CheckResult) -> str:
    return f"{result.verdict.upper():5} {result.subject:18} {result.finding}"


def _advice(results: Sequence[CheckResult]) -> str:
    """Return what a person does about it, the worst first."""
    order = (Verdict.FAIL, Verdict.WARN)
    troubles = [one for verdict in order for one in results if one.verdict == verdict]
    if not troubles:
        return "\nAll is well."
    lines = [
        textwrap.fill(
            f"{one.subject}: {one.remedy}", _WIDTH, initial_indent="  ", subsequent_indent="    "
        )
        for one in troubles
    ]
    return "\n".join(["\nWhat to do:", *lines])
