"""Asks the release server for a byte twice a second, to see when it serves again."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

from protocol.limits import MAX_HEADER_BYTES
from protocol.messages import ChunkRequest
from protocol.security import load_curve_keys, load_release_public
from protocol.sockets import SocketLimits
from robot_agent.learner_connection import LearnerConnection
from robot_agent.learner_keys import LearnerKeys
from tests.chaos.emulated_robot import Bundle

_EVERY_S = 0.5


class ReleaseProbe:
    """A robot that only asks. An answer is an answer, also that there is no such release."""

    def __init__(self, folder: Path) -> None:
        """Prepare to ask as the robot whose bundle ``folder`` is."""
        learner = Bundle(folder=folder).learner()
        self.answers = 0
        self._asked_s = 0.0
        self._connection = LearnerConnection(
            learner["releases"],
            load_curve_keys(folder / "robot.secret"),
            LearnerKeys.of_bundle(
                folder / learner["public_key"],
                verify_key=load_release_public(folder / learner["release_key"]),
                state_folder=folder / "state",
            ),
            SocketLimits(frame_bytes=MAX_HEADER_BYTES),
        )
        self._connection.open()

    def look(self) -> None:
        """Take answers, ask again when it is time; never waits."""
        while self._connection.receive(0.0) is not None:
            self.answers += 1
        if monotonic() - self._asked_s >= _EVERY_S:
            self._asked_s = monotonic()
            self._connection.send(ChunkRequest(version=1, offset=0, length=1))

    def close(self) -> None:
        self._connection.close()
