"""The guard: a small process that outlives the agent, and then holds the arm still.

``python -m robot_agent.safety.guard`` is started by the agent (see watchdog) before the robot is
opened. It reads on its standard input whom it guards, and then one byte for every sign of life.
When these end, or fail to come while the robot is at work, it makes sure that the agent is dead,
and has the driver hold the arm still.
"""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from protocol.errors import ConfigurationError
from robot_agent.config import SafetyConfig
from robot_agent.drivers import load_driver
from robot_agent.robots.base import GuardedRobot, RobotSite
from robot_agent.safety.stop_latch import Stop, StopLatch

logger = logging.getLogger("robot_agent.guard")

AT_WORK, AT_REST, SAFE, LEFT = b"+", b"-", b".", b"!"
"""Signs of life: the next one is due within ``stall_s``; none is due; the robot is in its safe
state, and the guard may go; the agent could not bring it there."""
READY = b"ready\n"
END_WITHIN_S = 2.0
"""An agent that was killed is waited for so long; one that hangs in the kernel may never end."""
HOLD_WITHIN_S = 60.0
"""How long the port is tried, for a cable that is plugged in again."""
_TRY_AGAIN_S = 0.1
HELD = "the arm holds still"
_IGNORED = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM),
)
_BEATS, _ANSWER = 0, 1


class Charge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom the guard guards: the first line of its standard input, JSON."""

    agent_pid: int
    name: str
    driver: str
    options: dict[str, Any]
    state_folder: str
    safety: SafetyConfig

    @property
    def site(self) -> RobotSite:
        """What the driver is told."""
        return RobotSite(name=self.name, state_folder=Path(self.state_folder), safety=self.safety)


def main() -> None:
    """Guard one agent until it has brought its robot to its safe state, or is gone."""
    # Whoever stops the agent, or all processes of its service, must not stop its guard first.
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    charge = msgspec.json.decode(sys.stdin.buffer.readline(), type=Charge)
    agent = os.pidfd_open(charge.agent_pid)
    if os.getppid() != charge.agent_pid:
        return  # it died before it opened its robot
    # Now, not when every moment counts.
    driver = load_driver(charge.driver)
    os.write(_ANSWER, READY)
    os.close(_ANSWER)
    why = watch(_BEATS, agent, charge.safety.stall_s)
    if why:
        hold(charge, driver, why)


def watch(beats: int, agent: int, stall_s: float) -> str:
    """Wait until the agent has no need of a guard any more.

    Args:
        beats: descriptor that the signs of life come from.
        agent: the agent's pidfd; it is dead on return unless it asked for the arm to be held.
        stall_s: how long none may come while the robot is at work.

    Returns:
        Why the arm must be held still; "" when it is in its safe state.
    """
    os.set_blocking(beats, False)
    poller = select.poll()
    poller.register(beats, select.POLLIN)
    # The pipe does not end when a process that the agent forked has it too.
    poller.register(agent, select.POLLIN)
    due_s = math.inf
    while True:
        wait_ms = None if due_s == math.inf else 1000 * max(0.0, due_s - time.monotonic())
        ready = [descriptor for descriptor, _ in poller.poll(wait_ms)]
        if not ready:
            end(agent)
            return f"its agent made no progress for {stall_s:g} s and was ended"
        beat = _last_sign(beats)
        if beat == SAFE:
            return ""
        if beat == LEFT:
            return "its agent could not bring it to its safe state"
        if not beat or agent in ready:
            end(agent)
            return "its agent died"
        due_s = math.inf if beat == AT_REST else time.monotonic() + stall_s


def _last_sign(beats: int) -> bytes:
    """Return the newest sign of life, which is how things are now; b"" when there is none."""
    try:
        return os.read(beats, 65_536)[-1:]
    except BlockingIOError:
        return b""


def end(agent: int) -> None:
    """Make sure that the agent does nothing any more."""
    try:
        signal.pidfd_send_signal(agent, signal.SIGKILL)
    except ProcessLookupError:
        return
    poller = select.poll()
    poller.register(agent, select.POLLIN)
    if not poller.poll(1000 * END_WITHIN_S):
        logger.critical("the agent was killed and has not ended; the arm is held all the same")


def hold(charge: Charge, driver: type[GuardedRobot], why: str) -> None:
    """Hold the arm still, with patience for its port, and keep the robot stopped meanwhile."""
    give_up_s = time.monotonic() + HOLD_WITHIN_S
    noted = ""
    # The robot is stopped from now on, whatever a try takes: an agent that is started meanwhile
    # must not use it. And no arm waits for a disk.
    with ThreadPoolExecutor(max_workers=1) as disk:
        stopped_before = disk.submit(StopLatch(Path(charge.state_folder)).read)

        def note(done: str) -> None:
            words = f"by its guard, because {why}; {done}"
            disk.submit(_note, charge, stopped_before, words)

        note("the arm is being held")
        while True:
            done = _try_to_hold(charge, driver)
            if done != noted:
                noted = done
                note(done)
            if done == HELD or time.monotonic() >= give_up_s:
                return
            time.sleep(_TRY_AGAIN_S)


def _try_to_hold(charge: Charge, driver: type[GuardedRobot]) -> str:
    """Return HELD, or what went wrong."""
    try:
        driver.hold(charge.options, charge.site)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is tried again
        return f"the arm may not hold still: {error}"
    return HELD


def _note(charge: Charge, stopped_before: Future[Stop | None], why: str) -> None:
    """Set the latch; who stopped the robot before is not forgotten."""
    before = stopped_before.result()
    stop = Stop.now(why) if before is None else Stop(why=f"{before.why}; {why}", at_ns=before.at_ns)
    logger.critical("%s: stopped %s", charge.name, stop)
    try:
        StopLatch(Path(charge.state_folder)).set(stop)
    except ConfigurationError as error:
        logger.critical("%s: the stop is not kept on disk: %s", charge.name, error)


if __name__ == "__main__":
    main()
