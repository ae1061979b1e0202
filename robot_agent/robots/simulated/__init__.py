"""The simulated robot: a gantry hand over a bin of cutlery and clutter, in MuJoCo."""

from robot_agent.robots.simulated.options import CameraPose, Light, SimulationOptions
from robot_agent.robots.simulated.randomisation import randomised_options, true_hand_eye_map
from robot_agent.robots.simulated.robot import SimulatedRobot

__all__ = [
    "CameraPose",
    "Light",
    "SimulatedRobot",
    "SimulationOptions",
    "randomised_options",
    "true_hand_eye_map",
]
