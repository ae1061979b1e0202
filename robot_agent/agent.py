"""The agent: attempts, one after the other, with the newest release, into the outbox."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec
import numpy as np

from protocol.codec import encode_episode
from protocol.episode import Episode, Mode
from protocol.errors import (
    OutboxError,
    OutboxFullError,
    RejectedEpisodeError,
    RobotError,
    SafetyFault,
)
from protocol.key_files import credential_of
from protocol.messages import STARTING, Heartbeat, RobotHealth
from protocol.release_manifest import CollectionSettings
from protocol.security import load_curve_keys, load_release_public
from robot_agent.arms.joint_calibration import JointCalibration
from robot_agent.attempts.camera_shift import CameraShift
from robot_agent.attempts.episode_loop import EpisodeLoop
from robot_agent.attempts.gripper_zero import GripperZero
from robot_agent.calibrating.calibration import Calibration
from robot_agent.calibrating.own_motion import load_or_find
from robot_agent.closing import ClosingStack
from robot_agent.config import AgentConfig
from robot_agent.delivery.gateways import Gateways
from robot_agent.delivery.outbox import Outbox
from robot_agent.delivery.uplink import Uplink
from robot_agent.drivers import open_camera, open_robot
from robot_agent.health import Health
from robot_agent.learner_keys import LearnerKeys
from robot_agent.policy.in_use import PolicyInUse
from robot_agent.releases.receiver import ReleaseReceiver
from robot_agent.robots.base import Robot
from robot_agent.safety.emergency_stop import EmergencyStop
from robot_agent.safety.stop_orders import StopOrders
from robot_agent.safety.watchdog import Watchdog
from robot_agent.safety.watched_parts import Watch
from robot_agent.safety.workspace import held_still_after_a_fault
from robot_agent.tally import Tally

if TYPE_CHECKING:
    from robot_agent.metrics import AgentMetrics

logger = logging.getLogger(__name__)

ORDERS_WITHIN_S = 2.0
"""An agent waits this long for its learner before it opens its robot: it may have been stopped
meanwhile. Where no learner answers, the robot works without one."""
DRAIN_S = 20.0
"""An agent that is told to stop waits this long for the learner to take what is spooled."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
"""Pause after an attempt that was aborted or could not even begin; doubled each time."""
SAY_AGAIN_S = 60.0
"""How often the log says that a full outbox keeps the robot waiting."""
LARGEST_ZERO = 0.1
"""A gripper that closes on nothing reads at most this share of its full opening."""


class Agent:
    """One robot: its drivers, its outbox, its connections and its policy.

    To be used as a context: leaving it brings the robot to its safe state, delivers what is
    spooled and closes everything. What closing itself fails at is raised only if nothing else went
    wrong before.
    """

    def __init__(self, config: AgentConfig, emergency: EmergencyStop, stopping: Event) -> None:
        """Open everything and find the hand-eye map; returns ready to grasp.

        Args:
            config: of the robot.
            emergency: what stops it, looking already.
            stopping: set when the agent is to end.

        Raises:
            EndedEarlyError: it was to end before it was ready; the robot is in its safe state.
            SafetyFault: the robot was stopped meanwhile.
            ConfigurationError: a key file, a driver, an option or the state folder is wrong.
            RobotError: robot or camera do not answer.
            HandEyeError: the camera does not see the gripper.
        """
        keys = load_curve_keys(credential_of(config.secret_key))
        verify_key = load_release_public(config.learner.release_key)
        self._learner_keys = LearnerKeys.of_bundle(
            config.learner.public_key, verify_key=verify_key, state_folder=config.state_folder
        )
        self._config = config
        self._emergency = emergency
        self._tally = Tally()
        self._policy = PolicyInUse()
        self._mode = Mode.RANDOM
        self._warning = ""
        self._is_open = False
        """Robot, camera and all else are there."""
        self._metrics: AgentMetrics | None = None
        self._outbox = Outbox(config.state_folder, config.outbox)
        self._rng = own_draws(config, self._outbox.counts().written)
        # Closed in the opposite order: the robot is safe before the outbox is drained.
        with ClosingStack() as parts:
            parts.closes("outbox", self._outbox.close)
            self._uplink = Uplink(
                name=config.name,
                gateways=Gateways(config.learner.gateways, config.state_folder),
                keys=keys,
                learner_keys=self._learner_keys,
                outbox=self._outbox,
                heartbeat=self.heartbeat,
                obey_stop=StopOrders(config.state_folder, emergency).obey,
            )
            parts.closes("uplink", self._drain)
            self._hear_orders()
            watchdog = Watchdog.start(config)
            parts.closes("guard", watchdog.close)
            self._watch = Watch(watchdog, emergency)
            bare_robot = open_robot(config, self._watch.beat)
            robot = self._watch.watched_robot(bare_robot)
            parts.closes("robot", robot.close)
            with held_still_after_a_fault(robot):
                camera = self._watch.watched_camera(open_camera(config.camera, bare_robot))
                parts.closes("camera", camera.close)
                with self._watch.unless(stopping):
                    self._calibration = load_or_find(robot, camera, config, self._rng)
                    zero_m = closed_zero_m(robot)
            self._health = Health(
                robot,
                CameraShift(config.state_folder, self._calibration.hand_eye_map),
                GripperZero(config.state_folder, zero_m),
            )
            self._loop = EpisodeLoop(
                config=config,
                robot=robot,
                camera=camera,
                calibration=self._calibration.hand_eye_map,
                rng=self._rng,
                closed_zero_m=zero_m,
            )
            self._receiver = ReleaseReceiver(
                endpoint=config.learner.releases,
                keys=keys,
                learner_keys=self._learner_keys,
                verify_key=verify_key,
                state_folder=config.state_folder,
                robot_id=config.name,
                calibration=self._calibration.hand_eye_map,
                height_px=config.camera.height_px,
                width_px=config.camera.width_px,
                joint_calibration=JointCalibration.digest_in(config.state_folder),
            )
            parts.closes("release receiver", self._receiver.close)
            if config.metrics.bind:
                # Loaded only where it is asked for.
                from robot_agent.metrics import AgentMetrics

                self._metrics = AgentMetrics(
                    config, self.heartbeat, lambda: self._uplink.stats, bare_robot
                )
                parts.closes("metrics", self._metrics.close)
            self._is_open = True
            self._parts = parts.pop_all()

    def run(self, stopping: Event) -> None:
        """Make attempts until ``stopping`` is set or ``max_attempts`` is reached.

        Raises:
            SafetyFault: only a person may resume; the robot holds still.
            OutboxError: its disk fails; an attempt is lost.
        """
        self._emergency.wakes(stopping)
        self._receiver.start()
        pause_s = FIRST_PAUSE_S
        while not stopping.is_set() and not self._is_enough():
            self._take_release()
            self._warning = self._try_attempt(stopping)
            if not self._warning:
                pause_s = FIRST_PAUSE_S
                continue
            logger.warning("%s: %s; next try in %.1f s", self._config.name, self._warning, pause_s)
            self._pause(stopping, pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._emergency.check()

    def _pause(self, stopping: Event, pause_s: float) -> None:
        try:
            self._watch.pause(stopping, pause_s)
        except SafetyFault as error:
            self._health.note_error(error)
            raise

    def _hear_orders(self) -> None:
        """Begin to deliver; raise SafetyFault if an operator has stopped the robot meanwhile."""
        self._uplink.start()
        if not self._uplink.await_welcome(ORDERS_WITHIN_S):
            logger.warning(
                "%s: no word from the learner within %g s: begins without knowing whether it was "
                "stopped from afar",
                *(self._config.name, ORDERS_WITHIN_S),
            )
        self._emergency.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._parts.__exit__(kind, error, trace)

    def heartbeat(self) -> Heartbeat:
        """Say how the robot is, also before it is open. Called on the uplink's thread."""
        counts, stats = self._outbox.counts(), self._uplink.stats
        policy = self._policy.release
        return Heartbeat(
            release_version=policy.release_version,
            policy_digest=policy.digest,
            mode=self._mode.value if self._is_open else STARTING,
            attempts=self._tally.attempts,
            successes=self._tally.successes,
            outbox_episodes=counts.waiting,
            outbox_bytes=counts.waiting_bytes,
            sent_bytes=stats.sent_bytes,
            reconnects=stats.reconnects,
            decision_ms_p50=self._tally.decision_ms(0.5),
            decision_ms_p99=self._tally.decision_ms(0.99),
            warnings=self._warnings(),
            next_server_key=self._learner_keys.next,
            health=self._health_now(),
        )

    def _health_now(self) -> RobotHealth:
        q_function = self._policy.q_function
        return msgspec.structs.replace(
            self._health.report() if self._is_open else RobotHealth(),
            outbox_limit_bytes=self._config.outbox.max_bytes,
            outbox_oldest_s=self._outbox.oldest_s(),
            release_created_at_ns=q_function.created_at_ns if q_function is not None else 0,
            metrics_port=self._metrics.offered_port if self._metrics is not None else 0,
        )

    def _try_attempt(self, stopping: Event) -> str:
        """Make an attempt and spool it; return what a person should know, or ""."""
        try:
            self._outbox.check_room()
            mode, episode = self._attempt()
        except SafetyFault as error:
            self._health.note_error(error)
            raise
        except (OutboxFullError, RobotError) as error:
            self._health.note_error(error)
            return f"no attempt possible: {error}"
        fault = self._loop.abort_error
        if isinstance(fault, SafetyFault):
            stopping.set()
        # On disk before anything else that may fail or take long.
        try:
            trouble = self._keep(episode, stopping)
        except OutboxError as error:
            if isinstance(fault, SafetyFault):  # it decides how the agent ends
                logger.warning("%s", error)
                raise fault from error
            raise
        self._note(mode, episode)
        if isinstance(fault, SafetyFault):
            raise fault
        return trouble

    def _keep(self, episode: Episode, stopping: Event) -> str:
        """Spool an attempt; return what a person should know, or ""."""
        try:
            record = encode_episode(episode)
        except RejectedEpisodeError as error:
            return f"an attempt is lost, no learner would accept it: {error}"
        self._spool(record, stopping)
        reason = episode.outcome.abort_reason
        return f"attempt aborted: {reason}" if reason else ""

    def _attempt(self) -> tuple[Mode, Episode]:
        q_function = self._policy.q_function
        collection = CollectionSettings() if q_function is None else q_function.collection
        self._mode = mode = self._choose_mode(collection)
        with self._watch.attempt():
            episode = self._loop.run_attempt(
                mode, q_function, max_moves=collection.max_moves, policy=self._policy.identity(mode)
            )
        return mode, episode

    def _note(self, mode: Mode, episode: Episode) -> None:
        """Have all who keep figures take down an attempt."""
        self._tally.add(episode)
        self._health.note_attempt(episode, self._loop.abort_error)
        if self._metrics is not None:
            self._metrics.note_attempt(episode)
        self._policy.note_attempt(mode, self._loop.abort_error)

    def _spool(self, record: bytes, stopping: Event) -> None:
        """Keep the record; with a full outbox, wait for room rather than lose it.

        Raises:
            OutboxError: the disk fails. The last heartbeat says so: nobody reads the log of a robot
                that falls silent.
        """
        is_stopping = False
        say_at_s = time.monotonic()
        while True:
            try:
                self._outbox.put(record, beyond_limit=is_stopping)
            except OutboxFullError as error:
                self._warning = str(error)
                if is_stopping:
                    logger.warning("%s: %s; the last attempt is lost", self._config.name, error)
                    return
                if time.monotonic() >= say_at_s:
                    logger.warning("%s: %s; the robot waits", self._config.name, error)
                    say_at_s = time.monotonic() + SAY_AGAIN_S
                with suppress(SafetyFault):  # it has set ``stopping``: the record comes first
                    self._pause(stopping, FIRST_PAUSE_S)
                is_stopping = stopping.is_set()
            except OutboxError as error:
                self._warning = f"ends, and an attempt is lost: {error}"
                raise OutboxError(f"{self._config.name} {self._warning}") from error
            else:
                self._uplink.notify()
                return

    def _drain(self) -> None:
        logger.info(
            "%s: ends: %d attempts wait in the outbox, the learner has up to %g s to take them",
            *(self._config.name, self._outbox.counts().waiting, DRAIN_S),
        )
        if not self._uplink.close(DRAIN_S):
            logger.warning(
                "%s: not all is told to the learner; %d attempts wait in the outbox for the next "
                "start",
                *(self._config.name, self._outbox.counts().waiting),
            )

    def _take_release(self) -> None:
        newest = self._receiver.take_newest()
        if newest is not None:
            self._policy.take(newest)
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

    def _warnings(self) -> list[str]:
        found = [self._warning, self._uplink.trouble, self._learner_keys.trouble]
        if self._is_open:
            q_function = self._policy.q_function
            refined = q_function.refined if q_function else None
            found += [
                _doubt(self._calibration),
                refined.warning if refined else "",
                self._receiver.trouble,
                self._policy.trouble,
            ]
        return [text[:512] for text in found if text]


def own_draws(config: AgentConfig, written: int) -> np.random.Generator:
    """Return what a robot explores by: other draws than any other robot of the fleet has.

    An agent that starts again makes other attempts, and the same ones if all is repeated.
    """
    return np.random.default_rng([config.seed, written, *config.name.encode()])


def _doubt(calibration: Calibration) -> str:
    if calibration.trusted:
        return ""
    return (
        f"hand-eye map cannot be right: the gripper's outline leaves {calibration.residual:.0%} of "
        "what moved unexplained; check camera_description and where the camera points"
    )


def closed_zero_m(robot: Robot) -> float:
    """Return what the gripper reads when it closes on nothing, out of view above the bin.

    Raises:
        RobotError: it reads what no empty gripper does.
    """
    robot.open_gripper()
    robot.retreat()
    zero_m = robot.close_gripper()
    robot.open_gripper()
    limit_m = LARGEST_ZERO * robot.gripper.max_opening_m
    if not abs(zero_m) <= limit_m:  # also when it is NaN
        raise RobotError(
            f"the gripper, closed on nothing, reads {zero_m * 1e3:.1f} mm, more than "
            f"{limit_m * 1e3:.1f} mm from zero: is something between the fingers?"
        )
    return zero_m
