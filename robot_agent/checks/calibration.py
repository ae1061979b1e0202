"""Is there a hand-eye map for this very robot and camera, and how well does it explain them."""

from __future__ import annotations

from collections.abc import Iterator

from robot_agent.calibration import saved_calibration
from robot_agent.config import AgentConfig
from robot_agent.robots.check_result import CheckResult, ok, warn

LARGEST_RESIDUAL = 0.35
"""Share left unexplained by a map that is trusted, but only just."""


def check_calibration(config: AgentConfig) -> Iterator[CheckResult]:
    """Look at the hand-eye map in the state folder."""
    subject = "hand-eye map"
    saved = saved_calibration(config)
    if saved is None:
        yield warn(
            subject,
            "none for this robot and camera as they are configured",
            "nothing to do: the next start finds one by 32 motions above the bin; keep clear of it",
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
