"""Were the joints calibrated, and how well does the hand-eye map explain robot and camera."""

from __future__ import annotations

from collections.abc import Iterator

from robot_agent.arms.joint_calibration import JointCalibration
from robot_agent.calibrating.calibration import saved_calibration
from robot_agent.config import AgentConfig
from robot_agent.drivers import load_driver
from robot_agent.robots.check_result import CheckResult, fail, ok, warn

LARGEST_RESIDUAL = 0.35
"""Share left unexplained by a map that is trusted, but only just."""


def check_calibration(config: AgentConfig) -> Iterator[CheckResult]:
    """Look at what is kept in the state folder: the joints, then the map that depends on them."""
    if lacks_joints(config):
        yield fail(
            "joints", "not calibrated: the arm refuses to move", "run: robot-agent calibrate"
        )
        return
    yield from _servos(config)
    subject = "hand-eye map"
    saved = saved_calibration(config)
    if saved is None:
        yield warn(
            subject,
            "none for this robot and camera as they are configured",
            _how_to_find_a_map(config),
        )
        return
    if saved.board_rms_px is not None:
        yield ok(subject, f"by a marker board, to {saved.board_rms_px:.2f} px")
        return
    found = f"leaves {saved.residual:.0%} of what moved unexplained"
    if saved.residual > LARGEST_RESIDUAL:
        yield warn(
            subject,
            f"{found}, more than {LARGEST_RESIDUAL:.0%}",
            "is the camera firm, and the light steady? Remove calibration.json from state_folder "
            "to have it found anew",
        )
    else:
        yield ok(subject, found)


def _servos(config: AgentConfig) -> Iterator[CheckResult]:
    measured = JointCalibration.read(config.state_folder) if _has_joints(config) else None
    if measured is not None and not measured.knows_its_servos:
        yield warn(
            "joints",
            "their calibration does not say which servos it was measured with: one that is changed "
            "goes unnoticed",
            "run: robot-agent calibrate, when it suits",
        )


def lacks_joints(config: AgentConfig) -> bool:
    """Return whether the arm has joints that must be calibrated, and were not yet.

    Raises:
        ConfigurationError: there is no such driver, or what was measured is damaged.
    """
    return _has_joints(config) and JointCalibration.read(config.state_folder) is None


def _has_joints(config: AgentConfig) -> bool:
    # A driver that lets its motors be reached has them calibrated; see JointedRobot.
    return hasattr(load_driver(config.robot.driver), "servos")


def _how_to_find_a_map(config: AgentConfig) -> str:
    itself = "the next start finds one by 32 motions above the bin; keep clear of it"
    if _has_joints(config):
        # Its links move in the picture too, and mislead the search.
        return f"better run: robot-agent calibrate --only board; otherwise {itself}"
    return f"nothing to do: {itself}"
