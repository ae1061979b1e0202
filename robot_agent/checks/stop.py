"""Is the robot stopped, so that only a person lets it go on."""

from __future__ import annotations

from collections.abc import Iterator

from robot_agent.config import AgentConfig
from robot_agent.robots.check_result import CheckResult, fail, ok
from robot_agent.safety.stop_latch import StopLatch


def check_stop(config: AgentConfig) -> Iterator[CheckResult]:
    """Look for a latch that an emergency stop or a safety fault left."""
    stop = StopLatch(config.state_folder).read()
    if stop is None:
        yield ok("stop", "the robot is not stopped")
        return
    yield fail(
        "stop", f"the robot was stopped {stop}", "look at the arm, then run: robot-agent resume"
    )
