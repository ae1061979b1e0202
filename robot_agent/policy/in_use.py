"""The policy that an agent grasps with, and what becomes of one whose network fails."""

from __future__ import annotations

import logging

from protocol.episode import Mode, PolicyIdentity
from protocol.errors import GraspFleetError, NonFiniteScoreError, RejectedReleaseError
from protocol.release import RANDOM_POLICY_DIGEST
from robot_agent.policy.q_function import QFunction

logger = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 3
"""A release whose network aborts so many attempts, one after the other, is dropped."""


class PolicyInUse:
    """The newest Q-function that works on this robot, with the one before it in reserve."""

    def __init__(self) -> None:
        self.q_function: QFunction | None = None
        """None: attempts are random."""
        self.trouble = ""
        """Why the newest release is not in use, in words; "" when it is."""
        self._reserve: QFunction | None = None
        self._failures = 0

    def take(self, newest: QFunction) -> None:
        """Use ``newest`` from now on."""
        self._reserve, self.q_function = self.q_function, newest
        self._failures, self.trouble = 0, ""

    def identity(self, mode: Mode) -> PolicyIdentity:
        """Return who makes an attempt in ``mode``; at random, only its version is the release's."""
        release = self.release
        digest = RANDOM_POLICY_DIGEST if mode == Mode.RANDOM else release.digest
        return PolicyIdentity(release_version=release.release_version, digest=digest)

    @property
    def release(self) -> PolicyIdentity:
        """Identity of the release in use; version 0 for none. Any thread may ask."""
        q_function = self.q_function
        if q_function is None:
            return PolicyIdentity(release_version=0, digest=RANDOM_POLICY_DIGEST)
        return q_function.policy

    def note_attempt(self, mode: Mode, error: GraspFleetError | None) -> None:
        """Note how an attempt ended; drop the release when its network failed too often.

        Args:
            mode: of the attempt; a random one says nothing of the network.
            error: what aborted it; None when it was finished.
        """
        if mode == Mode.RANDOM or self.q_function is None:
            return
        if not isinstance(error, (NonFiniteScoreError, RejectedReleaseError)):
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            self._drop(self.q_function, error)

    def _drop(self, failed: QFunction, error: GraspFleetError) -> None:
        self.q_function, self._reserve, self._failures = self._reserve, None, 0
        kept = self.q_function
        now = "attempts are random" if kept is None else f"release {kept.version} is back in use"
        self.trouble = (
            f"release {failed.version} is dropped, its network aborted {FAILURES_IN_A_ROW} "
            f"attempts in a row ({error}); {now}"
        )
        logger.error("%s", self.trouble)
