"""The agent: attempts, one after the other, with the newest release, into the outbox."""

from __future__ import annotations

import logging
from threading import Event

import numpy as np

from protocol.codec import encode_episode
from protocol.episode import Mode, PolicyIdentity
from protocol.errors import OutboxFullError, RobotError, SafetyFault
from protocol.messages import Heartbeat
from protocol.release import RANDOM_POLICY_DIGEST
from protocol.release_manifest import CollectionSettings
from protocol.security import load_curve_keys, load_curve_public, load_release_public
from robot_agent.calibration import Calibration, load_or_find
from robot_agent.config import AgentConfig
from robot_agent.drivers import open_camera, open_robot
from robot_agent.episode_loop import EpisodeLoop
from robot_agent.outbox import Outbox
from robot_agent.q_function import QFunction
from robot_agent.release_receiver import ReleaseReceiver
from robot_agent.robots.base import Robot
from robot_agent.tally import Tally
from robot_agent.uplink import Uplink

logger = logging.getLogger(__name__)

DRAIN_S = 20.0
"""An agent that is told to stop waits this long for the learner to take what is spooled."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
"""Pause after an attempt that could not even begin; doubled each time."""


class Agent:
    """One robot: its drivers, its outbox, its connections and its policy."""

    def __init__(self, config: AgentConfig) -> None:
        """Open everything and find the hand-eye map; returns ready to grasp.

        Raises:
            ConfigurationError: a key file, a driver, an option or the state folder is wrong.
            RobotError: robot or camera do not answer.
            HandEyeError: the camera does not see the gripper.
        """
        keys = load_curve_keys(config.secret_key)
        server_public = load_curve_public(config.learner.public_key)
        verify_key = load_release_public(config.learner.release_key)
        self._config = config
        self._tally = Tally()
        self._q_function: QFunction | None = None
        self._mode = Mode.RANDOM
        self._warning = ""
        self._outbox = Outbox(config.state_folder, config.outbox)
        # An agent that starts again makes other attempts, and the same ones if all is repeated.
        self._rng = np.random.default_rng([config.seed, self._outbox.counts().written])
        self._robot = open_robot(config.robot)
        try:
            self._camera = open_camera(config.camera, self._robot)
            self._calibration = load_or_find(self._robot, self._camera, config, self._rng)
            zero_m = closed_zero_m(self._robot)
        except BaseException:
            self._robot.close()
            raise
        self._loop = EpisodeLoop(
            config=config,
            robot=self._robot,
            camera=self._camera,
            calibration=self._calibration.hand_eye_map,
            rng=self._rng,
            closed_zero_m=zero_m,
        )
        self._uplink = Uplink(
            name=config.name,
            endpoint=config.learner.episodes,
            keys=keys,
            server_public=server_public,
            outbox=self._outbox,
            heartbeat=self.heartbeat,
        )
        self._receiver = ReleaseReceiver(
            endpoint=config.learner.releases,
            keys=keys,
            server_public=server_public,
            verify_key=verify_key,
            state_folder=config.state_folder,
            robot_id=config.name,
            calibration=self._calibration.hand_eye_map,
        )

    def run(self, stopping: Event) -> None:
        """Make attempts until ``stopping`` is set or ``max_attempts`` is reached.

        Raises:
            SafetyFault: only a person may resume; the robot holds still.
        """
        self._uplink.start()
        self._receiver.start()
        pause_s = FIRST_PAUSE_S
        while not stopping.is_set() and not self._is_enough():
            self._take_release()
            try:
                self._attempt(stopping)
                pause_s, self._warning = FIRST_PAUSE_S, ""
            except SafetyFault:
                raise
            except RobotError as error:
                self._warning = f"no attempt possible: {error}"
                logger.warning("%s: %s; next try in %.1f s", self._config.name, error, pause_s)
                stopping.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def close(self) -> bool:
        """Bring the robot to its safe state and deliver what is spooled.

        Returns:
            True when the learner has everything; the rest waits in the outbox for the next start.
        """
        self._robot.close()
        self._camera.close()
        self._receiver.close()
        drained = self._uplink.close(DRAIN_S)
        self._outbox.close()
        return drained

    def heartbeat(self) -> Heartbeat:
        """Say how the robot is. Called on the uplink's thread."""
        q_function, counts, stats = self._q_function, self._outbox.counts(), self._uplink.stats
        policy = _policy(q_function)
        return Heartbeat(
            release_version=policy.release_version,
            policy_digest=policy.digest,
            mode=self._mode.value,
            attempts=self._tally.attempts,
            successes=self._tally.successes,
            outbox_episodes=counts.waiting,
            outbox_bytes=counts.waiting_bytes,
            sent_bytes=stats.sent_bytes,
            reconnects=stats.reconnects,
            decision_ms_p50=self._tally.decision_ms(0.5),
            decision_ms_p99=self._tally.decision_ms(0.99),
            warnings=self._warnings(q_function),
        )

    def _attempt(self, stopping: Event) -> None:
        q_function = self._q_function
        collection = CollectionSettings() if q_function is None else q_function.collection
        self._mode = self._choose_mode(collection)
        episode = self._loop.run_attempt(
            self._mode,
            q_function,
            max_moves=collection.max_moves,
            policy=_policy(q_function),
        )
        self._tally.add(episode)
        self._spool(encode_episode(episode), stopping)

    def _spool(self, record: bytes, stopping: Event) -> None:
        """Keep the record; with a full outbox, wait for room rather than lose it."""
        while True:
            try:
                self._outbox.put(record)
            except OutboxFullError as error:
                self._warning = str(error)
                logger.warning("%s: %s; the robot waits", self._config.name, error)
                if stopping.wait(FIRST_PAUSE_S):
                    logger.warning("%s: stopped; the last attempt is lost", self._config.name)
                    return
            else:
                self._uplink.notify()
                return

    def _take_release(self) -> None:
        newest = self._receiver.take_newest()
        if newest is not None:
            self._q_function = newest
            self._uplink.wake_heartbeat()
            logger.info("%s: release %d in use", self._config.name, newest.version)

    def _choose_mode(self, collection: CollectionSettings) -> Mode:
        draw = self._rng.random()
        if draw < collection.random_fraction:
            return Mode.RANDOM
        if draw < collection.random_fraction + collection.explore_fraction:
            return Mode.EXPLORE
        return Mode.GREEDY

    def _is_enough(self) -> bool:
        return 0 < self._config.max_attempts <= self._tally.attempts

    def _warnings(self, q_function: QFunction | None) -> list[str]:
        refined = q_function.refined if q_function else None
        found = [
            self._warning,
            _doubt(self._calibration),
            refined.warning if refined else "",
            self._uplink.trouble,
            self._receiver.last_refusal,
        ]
        return [text[:512] for text in found if text]


def _policy(q_function: QFunction | None) -> PolicyIdentity:
    if q_function is None:
        return PolicyIdentity(release_version=0, digest=RANDOM_POLICY_DIGEST)
    return q_function.policy


def _doubt(calibration: Calibration) -> str:
    if calibration.trusted:
        return ""
    return (
        f"hand-eye map cannot be right: the gripper's outline leaves {calibration.residual:.0%} of "
        "what moved unexplained; check camera_description and where the camera points"
    )


def closed_zero_m(robot: Robot) -> float:
    """Return what the gripper reads when it closes on nothing, out of view above the bin."""
    robot.open_gripper()
    robot.retreat()
    zero_m = robot.close_gripper()
    robot.open_gripper()
    return zero_m
