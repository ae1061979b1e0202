"""Pictures of a marker board at places that are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protocol.episode import GripperPose
from robot_agent.calibrating.board_fit import BoardView
from robot_agent.calibrating.guide import Guide
from robot_agent.calibrating.marker_board import MarkerBoard
from robot_agent.calibrating.own_motion import LOWEST_VIEW_M, VIEWS, viewing_poses
from robot_agent.cameras.base import Camera
from robot_agent.robots.base import Robot
from robot_agent.safety.workspace import Workspace


def see_lying(
    robot: Robot, camera: Camera, board: MarkerBoard, places: Sequence[GripperPose], guide: Guide
) -> list[BoardView]:
    """Look at the board at one place after the other, the hand out of view.

    Raises:
        RobotError: robot or camera failed.
    """
    robot.retreat()
    views = []
    for place in places:
        guide.confirm(
            f"Lay the board's middle at x {place.x_m:g} m, y {place.y_m:g} m, its surface at "
            f"z {place.z_m:g} m, turned by {np.rad2deg(place.yaw_rad):g} degrees."
        )
        view = BoardView(sighting=board.find(camera.capture().image), pose=place)
        guide.say(f"  {len(view.sighting)} corners seen")
        views.append(view)
    return views


def see_held(
    robot: Robot,
    camera: Camera,
    board: MarkerBoard,
    workspace: Workspace,
    *,
    above_tips_m: float,
    guide: Guide,
    rng: np.random.Generator,
) -> list[BoardView]:
    """Carry the board through the camera's view; the hand ends open.

    Raises:
        RobotError: robot or camera failed.
    """
    robot.open_gripper()
    robot.retreat()
    guide.confirm("Hold the board between the open fingers: they will close on it.")
    robot.close_gripper()
    # A board that hangs below the fingers must not touch what lies in the bin.
    lowest_m = LOWEST_VIEW_M + max(0.0, -above_tips_m)
    views = []
    for index, pose in enumerate(viewing_poses(robot, workspace, lowest_m, rng)):
        robot.move_to(pose)
        state = robot.state()
        view = BoardView(sighting=board.find(camera.capture().image), pose=state.pose)
        guide.say(f"  pose {index + 1} of {VIEWS}: {len(view.sighting)} corners seen")
        views.append(view)
    robot.retreat()
    guide.confirm("Take the board: the fingers will open.")
    robot.open_gripper()
    return views
