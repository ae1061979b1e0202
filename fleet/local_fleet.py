"""The learner and the robots' agents as processes on this machine."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleet.child_process import ChildProcess
from fleet.operator import operator_connection
from fleet.run_folder import RunFolder
from fleet.status import StatusClient
from protocol.errors import GraspFleetError, TransientError
from protocol.messages import StatusReply

logger = logging.getLogger(__name__)

CONFIGURATION_STATUS, SAFETY_STATUS = 2, 3
"""Exit statuses of a process that a person must help; starting it again would not, or must not."""
_ENDED_BY_SIGTERM = {-signal.SIGTERM, signal.SIGTERM}
"""Of a process that was not yet ready to end in order; the second is how Ray ends its driver."""
AGENT_RESTARTS = 5
LEARNER_RESTARTS = 1
_MEMORY_INTERVAL_S = 2.0


class FleetEndedError(GraspFleetError):
    """A process that the fleet cannot do without has ended."""


@dataclass(kw_only=True, slots=True)
class _Member:
    """A process, and when it may be started again."""

    process: ChildProcess
    restarts_left: int
    restarts: int = 0
    start_at: float = 0.0
    given_up: bool = False


class LocalFleet:
    """Starts, tends and ends the processes of one run folder."""

    def __init__(
        self, folder: RunFolder, names: Sequence[str], *, say: Callable[[str], None]
    ) -> None:
        """Prepare; nothing starts yet. ``say`` takes what a person should not miss."""
        self._folder = folder
        self._say = say
        self._learner = _Member(
            process=ChildProcess(
                "learner",
                ["-m", "learner", "--config", str(folder.learner_config)],
                log=folder.logs / "learner.log",
                # Killed outright, it would leave some of Ray's processes behind for minutes. A
                # robot's agent may be killed: what it must keep is on its disk.
                end_signal=signal.SIGTERM,
            ),
            restarts_left=LEARNER_RESTARTS,
        )
        self._agents = [
            _Member(
                process=ChildProcess(
                    name,
                    ["-m", "robot_agent", "--config", str(folder.robot_config(name))],
                    log=folder.logs / f"{name}.log",
                ),
                restarts_left=AGENT_RESTARTS,
            )
            for name in names
        ]
        self._status: StatusClient | None = None
        self._answers = False
        """Since it was started last, the learner has answered."""
        self._memory_at = 0.0

    @property
    def restarts(self) -> dict[str, int]:
        """Restarts by process name, those that were needed."""
        return {one.process.name: one.restarts for one in self._members if one.restarts}

    @property
    def peak_resident_mb(self) -> dict[str, float]:
        """Peak memory by process name."""
        return {one.process.name: round(one.process.peak_resident_mb, 1) for one in self._members}

    def start_learner(self) -> None:
        """Start the learner and connect to it; ``status`` tells when it is ready."""
        self._learner.process.start()
        self._status = StatusClient(*operator_connection(self._folder))

    def start_agents(self) -> None:
        """Start every robot's agent."""
        for agent in self._agents:
            agent.process.start()

    def status(self, timeout_s: float) -> StatusReply | None:
        """Return the fleet's status; None when the gateway does not answer in time."""
        if self._status is None:
            return None
        try:
            reply = self._status.fetch(timeout_s)
        except TransientError:
            # The learner's key may have been changed: its new one is in the folder.
            self._status.close()
            self._status = StatusClient(*operator_connection(self._folder))
            return None
        self._answers = True
        return reply

    def tend(self) -> None:
        """Look after every process: restart what died, measure what lives.

        Raises:
            FleetEndedError: the learner, or every agent, is beyond restarting.
        """
        self._tend(self._learner)
        if self._learner.given_up:
            raise FleetEndedError(
                "the learner ended; its log ends with\n" + self._learner.process.log_tail()
            )
        for agent in self._agents:
            if agent.process.pid:
                self._tend(agent)
        if self._agents and all(agent.given_up for agent in self._agents):
            raise FleetEndedError(
                f"every robot's agent ended; the first one's log is {self._agents[0].process.log}"
            )
        if time.monotonic() - self._memory_at > _MEMORY_INTERVAL_S:
            self._memory_at = time.monotonic()
            for member in self._members:
                member.process.measure_memory()

    def end_agents(self, timeout_s: float) -> None:
        """Let every agent finish its attempt and empty its outbox; then end what still runs."""
        _end([agent.process for agent in self._agents], timeout_s, self._say)

    def end_learner(self, timeout_s: float) -> None:
        """Let the learner write its checkpoint; then end it.

        Raises:
            FleetEndedError: it had ended by itself, and was not back.
        """
        if self._status is not None:
            self._status.close()
            self._status = None
        process = self._learner.process
        is_lost = process.exit_status is not None
        is_lost |= self._learner.restarts > 0 and not self._answers
        _end([process], timeout_s, self._say)
        if is_lost:
            raise FleetEndedError(
                "the learner ended by itself and was not back at the end; its log ends with\n"
                + process.log_tail()
            )

    def kill(self) -> None:
        """End everything at once."""
        for member in self._members:
            member.process.kill()
        if self._status is not None:
            self._status.close()
            self._status = None

    @property
    def _members(self) -> list[_Member]:
        return [self._learner, *self._agents]

    def _tend(self, member: _Member) -> None:
        process = member.process
        if process.running or member.given_up:
            return
        if member.start_at == 0.0:
            self._note_end(member)
        elif time.monotonic() >= member.start_at:
            member.start_at = 0.0
            member.restarts += 1
            member.restarts_left -= 1
            process.start()

    def _note_end(self, member: _Member) -> None:
        process = member.process
        if member is self._learner:
            self._answers = False
        status = process.exit_status
        again = member.restarts_left > 0 and status not in (CONFIGURATION_STATUS, SAFETY_STATUS)
        member.given_up = not again
        wait_s = 2.0**member.restarts
        member.start_at = time.monotonic() + wait_s
        then = f"starting it again in {wait_s:.0f} s" if again else "not starting it again"
        said = f"{process.name} ended with status {status}; {then}"
        if again or member is not self._learner:  # of the learner's last end the error tells
            said += f". Its log ({process.log}) ends with:\n{process.log_tail()}"
        self._say(said)


def _end(processes: Sequence[ChildProcess], timeout_s: float, say: Callable[[str], None]) -> None:
    asked = {process.name for process in processes if process.running}
    for process in processes:
        process.ask_to_end()
    deadline = time.monotonic() + timeout_s
    for process in processes:
        status = process.wait(max(0.0, deadline - time.monotonic()))
        is_ours = process.name in asked and status in _ENDED_BY_SIGTERM
        if process.running:
            say(f"{process.name} did not end within {timeout_s:.0f} s and was killed")
        elif status and not is_ours:
            say(f"{process.name} ended with status {status}; see {process.log}")
        process.kill()
