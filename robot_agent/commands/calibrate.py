"""``robot-agent calibrate``: what must be measured of a robot before it can grasp."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from protocol.configuration import load_toml
from protocol.errors import ConfigurationError

if TYPE_CHECKING:
    from robot_agent.calibrating.marker_board import MarkerBoard

Part = Literal["joints", "gripper", "hand-eye", "board"]
Place = tuple[float, float, float, float]
INTERRUPTED = 130
FURTHEST_FROM_TIPS_MM = 200.0


def calibrate(
    config: Annotated[Path | None, tyro.conf.arg(metavar="TOML", help_behavior_hint="")] = None,
    only: Annotated[Part | None, tyro.conf.arg(help_behavior_hint="")] = None,
    record_seconds: Annotated[float, tyro.conf.arg(metavar="S")] = 0.0,
    reverse: Annotated[tuple[str, ...], tyro.conf.arg(metavar="JOINT", help_behavior_hint="")] = (),
    endless: Annotated[tuple[str, ...], tyro.conf.arg(metavar="JOINT", help_behavior_hint="")] = (),
    board_at: Annotated[
        tuple[Place, ...], tyro.conf.arg(metavar="X Y Z DEGREES", help_behavior_hint="")
    ] = (),
    board_above_tips_mm: Annotated[
        float | None, tyro.conf.arg(metavar="MM", help_behavior_hint="")
    ] = None,
    squares: tuple[int, int] = (5, 4),
    square_mm: Annotated[float, tyro.conf.arg(metavar="MM")] = 15.0,
    print_board: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")
    ] = None,
) -> int:
    """Measure joints, gripper and hand-eye map, with plain instructions on the way.

    Joints: the motors go limp and you move each joint to both of its ends. Gripper: its motor finds
    its ends by itself, gently. Hand-eye: the hand moves above the bin, and the camera is fitted to
    what it sees. Robots without joints of our own need only the last. Everything is kept in the
    state folder, and is part of the identity of the policy that the robot grasps with.

    For the hand-eye map the arm moves by itself, and begins by rising and swinging to its parking
    place: see with check --move that it goes the right way first, and keep clear.

    A printed marker board gives the hand-eye map more precisely, and is what a jointed arm should
    have: print one with --print-board, then use --only board, with the board in the hand and
    --board-above-tips-mm, or lying where --board-at says.

    The robot's agent must not run meanwhile. Ctrl-C makes the arm hold still where it is. Space,
    SIGUSR1 and a file STOP in the state folder stop it as they stop its agent, at once and until
    robot-agent resume. Exit status: 0 all is kept; 1 or 2 it is not, for the reason told; 3 the
    robot was stopped, before or meanwhile; 130 after Ctrl-C.

    Args:
        config: The robot's configuration file.
        only: This part alone: "board" replaces "hand-eye".
        record_seconds: Ask nobody, and let each recording of joints take so long.
        reverse: Joints, or "gripper", whose motors count the other way than the arm's model.
        endless: Joints without stops: each keeps the zero that you give it by hand.
        board_at: Where the middle of a lying board is put, one place after the other: x, y and z of
            its surface (metres, base frame), and by how many degrees it is turned from x to y.
        board_above_tips_mm: Height of a held board's middle above the finger tips; negative below.
        squares: Columns and rows of the board.
        square_mm: Side of its squares as they came out of the printer.
        print_board: Write the board to this .pdf or .png, and do nothing else.
    """
    # Loaded only here: the other commands need none of it.
    from robot_agent.calibrating.board_page import write_board
    from robot_agent.calibrating.marker_board import MarkerBoard

    board = MarkerBoard(columns=squares[0], rows=squares[1], square_m=square_mm / 1e3)
    if print_board is not None:
        print(write_board(board, print_board))
        return 0
    if config is None:
        raise ConfigurationError("calibrate: --config is missing: which robot?")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    _check_board_options(only, board, board_at, board_above_tips_mm)
    try:
        _calibrate(
            config,
            only,
            record_seconds=record_seconds,
            reverse=reverse,
            endless=endless,
            board=board,
            places=board_at,
            above_tips_m=None if board_above_tips_mm is None else board_above_tips_mm / 1e3,
        )
    except KeyboardInterrupt:
        print("\nstopped; parts that were done are kept, measure the one in progress again")
        return INTERRUPTED
    return 0


def _check_board_options(
    only: Part | None,
    board: MarkerBoard,
    places: tuple[Place, ...],
    above_tips_mm: float | None,
) -> None:
    """See that the options say where the board is, and only where there is to be one.

    Raises:
        ConfigurationError: they do not.
    """
    from robot_agent.calibrating.marker_board import MarkerBoard

    if only != "board":
        if places or above_tips_mm is not None or board != MarkerBoard():
            raise ConfigurationError(
                "calibrate: options of a board are for --only board (and --print-board)"
            )
    elif bool(places) == (above_tips_mm is not None):
        raise ConfigurationError(
            "calibrate: --only board needs --board-above-tips-mm for a board in the hand, or "
            "--board-at for one that lies, and not both"
        )
    elif above_tips_mm is not None and not abs(above_tips_mm) <= FURTHEST_FROM_TIPS_MM:
        raise ConfigurationError(
            f"calibrate: --board-above-tips-mm {above_tips_mm:g}: "
            f"{-FURTHEST_FROM_TIPS_MM:g} to {FURTHEST_FROM_TIPS_MM:g}"
        )


def _calibrate(
    config: Path,
    only: Part | None,
    *,
    record_seconds: float,
    reverse: tuple[str, ...],
    endless: tuple[str, ...],
    board: MarkerBoard,
    places: tuple[Place, ...],
    above_tips_m: float | None,
) -> None:
    from protocol.episode import GripperPose
    from robot_agent.calibrating.guide import Guide
    from robot_agent.calibrating.session import CalibrationSession
    from robot_agent.config import AgentConfig
    from robot_agent.safety.emergency_stop import EmergencyStop
    from robot_agent.safety.stop_latch import StopLatch

    settings = load_toml(config, AgentConfig)
    with EmergencyStop(settings.name, StopLatch(settings.state_folder)) as emergency:
        emergency.heed_signal()
        guide = Guide(record_seconds, emergency=emergency)
        with CalibrationSession(settings, guide, emergency) as session:
            if only in (None, "joints", "gripper"):
                session.measure_arm(only, reverse, endless)
            if only in (None, "hand-eye"):
                session.find_hand_eye_map()
            if only == "board":
                poses = [
                    GripperPose(x_m=x, y_m=y, z_m=z, yaw_rad=math.radians(turn))
                    for x, y, z, turn in places
                ]
                session.find_board_map(board, poses, above_tips_m)
