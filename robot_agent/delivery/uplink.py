"""The uplink: carries the outbox to the learner, again and again until it is acked.

A thread of its own, so that the robot never waits for the network. It sends only what the
learner's window allows; whatever is not acked when the connection breaks is sent anew.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from protocol.codec import decode_message
from protocol.errors import OutboxError, OutboxFullError, RejectedMessageError
from protocol.limits import MAX_HEADER_BYTES
from protocol.messages import (
    WIRE_VERSION,
    Ack,
    EpisodeSubmission,
    FromGateway,
    Heartbeat,
    Hello,
    KeyNotice,
    Redirect,
    Refusal,
    Stop,
    StopConfirmation,
    Welcome,
)
from protocol.refusal_code import RefusalCode
from protocol.refusal_log import RefusalLog, printable
from protocol.security import CurveKeys
from protocol.sockets import SocketLimits
from protocol.wakeup import Wakeup
from robot_agent.delivery.gateways import Gateways
from robot_agent.delivery.outbox import Outbox
from robot_agent.delivery.send_window import SendWindow
from robot_agent.delivery.tombstone_sender import TombstoneSender
from robot_agent.learner_connection import LearnerConnection
from robot_agent.learner_keys import LearnerKeys

logger = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
HELLO_AGAIN_S = 3.0
GREETINGS = 2
"""So many without any answer, and the robot goes on to the next gateway."""
RESEND_AFTER_S = 10.0
"""How long to wait for an ack before everything under way is sent again; see SendWindow."""
PAUSE_S = 5.0
"""How long to send nothing after a refusal; while the learner takes nothing twice as long each
time, up to LONGEST_PAUSE_S."""
LONGEST_PAUSE_S = 60.0
REFUSED_PAUSE_S = 1.0
"""How long to wait where another agent holds the robot's place."""
_AFTER_ERROR_S = 0.25
_READ_BYTES = 2**20
_TEMPORARY = {RefusalCode.RATE, RefusalCode.STORE_FULL, RefusalCode.STORE_UNAVAILABLE}
"""What the learner takes another time, from a robot that is welcome."""
_STORE_TROUBLE = {RefusalCode.STORE_FULL, RefusalCode.STORE_UNAVAILABLE}
"""Of these, what another gateway may not have: the second time in a row the robot goes there."""
_OWN_DEFECT = {RefusalCode.MALFORMED, RefusalCode.TOMBSTONE}
"""What is wrong with one message and does not concern the others."""
_OLD_LEARNER = {RefusalCode.WIRE_VERSION, RefusalCode.MALFORMED}
"""How a learner of an older wire version refuses a greeting that it does not understand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UplinkStats:
    """What the uplink did since it started."""

    is_welcome: bool
    """The learner answered and takes episodes."""
    sent_episodes: int
    sent_bytes: int
    acked_episodes: int
    reconnects: int


class Uplink:
    """Delivers one outbox to one gateway, and to another when that one is gone."""

    def __init__(
        self,
        *,
        name: str,
        gateways: Gateways,
        keys: CurveKeys,
        learner_keys: LearnerKeys,
        outbox: Outbox,
        heartbeat: Callable[[], Heartbeat],
        obey_stop: Callable[[Stop], StopConfirmation | None],
    ) -> None:
        """Prepare to deliver; ``start`` begins.

        Args:
            name: what the robot calls itself; must be the name its key is enrolled under.
            gateways: where to deliver.
            keys: the robot's keys.
            learner_keys: the learner's public keys.
            outbox: what is to be delivered.
            heartbeat: says how the robot is; called on the uplink's thread every second.
            obey_stop: stops the robot; called on the uplink's thread. None is no answer: the
                gateway gives the order again.
        """
        self._name = name
        self._gateways = gateways
        self._outbox = outbox
        self._heartbeat = heartbeat
        self._obey_stop = obey_stop
        self._learner_keys = learner_keys
        self._process_id = os.urandom(16)
        self._wakeup = Wakeup()
        self._connection = LearnerConnection(
            gateways.current,
            keys,
            learner_keys,
            SocketLimits(frame_bytes=MAX_HEADER_BYTES),
            wakeup=self._wakeup,
        )
        self._window = SendWindow(RESEND_AFTER_S)
        self._tombstones = TombstoneSender(outbox, RESEND_AFTER_S)
        self._refusals = RefusalLog(logger)
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._close_by_s: float | None = None
        self._refusal = ""
        self._is_welcome = False
        self._was_welcomed = threading.Event()
        self._greeted_connection = 0
        self._hello_due_s = 0.0
        self._beat_due_s = 0.0
        self._connected_s = time.monotonic()
        """When there was a connection last, or another gateway was turned to."""
        self._greeted_s: float | None = None
        """When the first greeting was sent that has had no answer of any kind."""
        self._is_stalled = False
        """Nothing was acked for so long that it was sent again."""
        self._silences = 0
        """Of the connection's: those after which the gateway was left."""
        self._paused_until_s = 0.0
        self._pause_s = PAUSE_S
        self._granted_bytes = 0
        self._sent_episodes = self._sent_bytes = self._acked_episodes = 0
        self._sent_through = 0
        """The highest sequence that this process sent, on whatever connection."""

    def start(self) -> None:
        """Begin to deliver.

        Raises:
            ConfigurationError: the endpoint is malformed.
        """
        self._connected_s = time.monotonic()
        self._connection.open()
        self._thread.start()

    def await_welcome(self, timeout_s: float) -> bool:
        """Wait for the first welcome, no longer than this; return whether it came.

        An order to stop that is open at the gateway has been obeyed by then. One that is there, and
        has just begun, asks the others for their orders first: it is waited for as long again.
        """
        return self._was_welcomed.wait(timeout_s) or (
            self._connection.is_connected and self._was_welcomed.wait(timeout_s)
        )

    def notify(self) -> None:
        """Say that the outbox has something new."""
        self._wakeup.set()

    def wake_heartbeat(self) -> None:
        """Send a heartbeat now, because something in it changed that the learner waits for."""
        self._beat_due_s = 0.0
        self._wakeup.set()

    def close(self, deadline_s: float) -> bool:
        """Go on for at most ``deadline_s`` until the outbox is empty, then disconnect.

        Returns:
            True when everything was delivered; the rest stays in the outbox.
        """
        self._close_by_s = time.monotonic() + deadline_s
        self._wakeup.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._wakeup.close()
        return self._is_drained()

    @property
    def trouble(self) -> str:
        """Why nothing is being delivered, in words for a person; "" when all is well."""
        if self._connection.refusal or self._refusal:
            return self._connection.refusal or self._refusal
        if not self._is_welcome:
            return f"the learner at {self._gateways.current} does not answer"
        return f"the learner at {self._gateways.current} acks nothing" if self._is_stalled else ""

    @property
    def stats(self) -> UplinkStats:
        """Return what was done so far."""
        return UplinkStats(
            is_welcome=self._is_welcome,
            sent_episodes=self._sent_episodes,
            sent_bytes=self._sent_bytes,
            acked_episodes=self._acked_episodes,
            reconnects=max(0, self._connection.connections - 1),
        )

    def _run(self) -> None:
        sent = False
        while not self._may_end():
            try:
                sent = self._turn(wait_s=0.0 if sent else self._idle_s())
            except Exception:
                # The control loop must not suffer; what was under way is sent again.
                logger.exception("uplink: begins anew in %.0f s", PAUSE_S)
                self._is_welcome = False
                self._hello_due_s = time.monotonic() + PAUSE_S
                sent = False
                time.sleep(_AFTER_ERROR_S)
        if self._is_welcome:
            # How the robot was when it ended: nobody will say so later.
            self._beat(time.monotonic())
        self._connection.close()

    def _idle_s(self) -> float:
        """Return how long nothing is due, unless something comes or wakes this thread."""
        now_s = time.monotonic()
        due_s = [now_s + HEARTBEAT_S]
        if self._connection.is_connected:
            due_s.append(self._beat_due_s if self._is_welcome else self._hello_due_s)
        if now_s < self._paused_until_s:
            due_s.append(self._paused_until_s)
        if self._close_by_s is not None:
            due_s.append(self._close_by_s)
        return max(0.0, min(due_s) - now_s)

    def _turn(self, wait_s: float) -> bool:
        """Do what is due; return True if there may be more to send at once."""
        frames = self._connection.receive(wait_s)
        if frames is not None:
            self._take(frames)
        now_s = time.monotonic()
        if self._leave_if_useless(now_s):
            return False
        if not self._connection.is_connected:
            self._is_welcome = False
            return False
        self._connected_s = now_s
        if self._connection.connections != self._greeted_connection:
            self._is_welcome = False
            self._hello_due_s = 0.0
            self._greeted_s = None
        if not self._is_welcome:
            self._greet_if_due(now_s)
            return False
        is_beat_due = now_s >= self._beat_due_s
        if is_beat_due:
            self._beat(now_s)
        if now_s < self._paused_until_s:
            return False
        if is_beat_due:
            self._send_tombstones(now_s)
        return self._send_records(now_s)

    def _leave_if_useless(self, now_s: float) -> bool:
        """Leave a gateway that cannot be reached, or that lives and does nothing."""
        if self._connection.silences != self._silences:
            # Its disk may hang while it greets whoever connects. Not before the connection was
            # given up for it: on a slow link a large record takes as long.
            self._silences = self._connection.silences
            self._leave(now_s, "answers nothing")
            return True
        stay_s = self._gateways.stay_s
        if self._connection.is_connected:
            since_s = now_s if self._greeted_s is None else self._greeted_s
            stay_s = max(stay_s, GREETINGS * HELLO_AGAIN_S)
        else:
            since_s = self._connected_s
        if now_s - since_s <= stay_s:
            return False
        self._leave(now_s, "does not answer")
        return True

    def _leave(self, now_s: float, why: str) -> None:
        """Go on to the next gateway, if there is another; what is not acked is sent there."""
        left = self._gateways.current
        self._connected_s = now_s
        self._greeted_s = None
        if self._gateways.go_on() == left:
            return
        self._is_stalled = False
        logger.warning("%s %s: trying %s", left, why, self._gateways.current)
        self._connection.move_to(self._gateways.current)

    def _greet_if_due(self, now_s: float) -> None:
        if now_s < self._hello_due_s:
            return
        self._hello_due_s = now_s + HELLO_AGAIN_S
        if self._greeted_s is None:
            self._greeted_s = now_s
        self._refusals.say_counts()
        self._greeted_connection = self._connection.connections
        self._connection.send(
            Hello(
                wire_version=WIRE_VERSION,
                software_version=version("graspfleet"),
                claimed_name=self._name,
                spool_id=self._outbox.spool_id,
                next_sequence=self._outbox.counts().written + 1,
                process_id=self._process_id,
                sent_on=self._gateways.was_sent_on,
            )
        )

    def _beat(self, now_s: float) -> None:
        self._beat_due_s = now_s + HEARTBEAT_S
        self._refusals.say_counts()
        try:
            heartbeat = self._heartbeat()
        except Exception:
            # What is to be delivered does not depend on how the robot is.
            logger.exception("no heartbeat: begins anew in %.0f s", PAUSE_S)
            self._beat_due_s = now_s + PAUSE_S
        else:
            self._connection.send(heartbeat, is_answered=False)

    def _send_tombstones(self, now_s: float) -> None:
        for tombstone in self._tombstones.next_messages(now_s):
            self._sent_through = max(self._sent_through, tombstone.last_sequence)
            self._connection.send(tombstone)

    def _send_records(self, now_s: float) -> bool:
        """Send what the window has room for, up to a piece; return True if something was sent."""
        self._is_stalled = self._window.restart_if_stalled(now_s) or self._is_stalled
        if not self._window.has_room(1):
            return False
        limit_bytes = min(_READ_BYTES, self._window.room)
        episodes = self._outbox.unsent(self._window.cursor, limit_bytes)
        for episode in episodes:
            size_bytes = len(episode.record)
            submission = EpisodeSubmission(
                spool_id=self._outbox.spool_id, sequence=episode.sequence, digest=episode.digest
            )
            if not self._window.has_room(size_bytes) or not self._connection.send(
                submission, episode.record
            ):
                return False
            self._window.add(episode.sequence, size_bytes, now_s)
            self._sent_through = max(self._sent_through, episode.sequence)
            self._sent_episodes += 1
            self._sent_bytes += size_bytes
        return bool(episodes)

    def _take(self, frames: list[bytes]) -> None:
        try:
            message: FromGateway = decode_message(frames[0], FromGateway)
        except RejectedMessageError as error:
            logger.warning("a message of the learner is ignored: %s", printable(str(error)))
            return
        self._greeted_s = None
        if isinstance(message, Welcome):
            self._begin(message)
        elif isinstance(message, Redirect):
            self._follow(message)
        elif isinstance(message, Ack) and message.spool_id == self._outbox.spool_id:
            self._take_ack(message)
        elif isinstance(message, Refusal):
            self._take_refusal(message)
        elif isinstance(message, KeyNotice):
            self._learner_keys.take(message)
            self.wake_heartbeat()
        elif isinstance(message, Stop):
            confirmation = self._obey_stop(message)
            if confirmation is not None:
                self._connection.send(confirmation, is_answered=False)

    def _follow(self, redirect: Redirect) -> None:
        left = self._gateways.current
        goal = self._gateways.redirect(redirect.endpoint, redirect.gateways)
        self._is_welcome = False
        self._hello_due_s = 0.0
        if goal != left:
            logger.info("%s redirects to %s", left, goal)
            self._connected_s = time.monotonic()
            self._connection.move_to(goal)

    def _take_ack(self, ack: Ack) -> None:
        sent = [sequence for sequence in ack.sequences if sequence <= self._sent_through]
        if len(sent) < len(ack.sequences):
            # Believing it would delete what nobody has.
            logger.error(
                "the learner acks up to %d, but only %d was sent: the rest of the ack is ignored",
                *(max(ack.sequences), self._sent_through),
            )
        self._outbox.forget(sent)
        now_s = time.monotonic()
        self._window.remove(sent, now_s)
        self._tombstones.take_ack(sent, now_s)
        if sent:
            self._is_stalled = False
            self._note_progress()
        self._acked_episodes += len(sent)

    def _note_progress(self) -> None:
        self._refusal = ""
        self._pause_s = PAUSE_S
        self._window.limit = self._granted_bytes

    def _begin(self, welcome: Welcome) -> None:
        self._is_welcome = True
        self._beat_due_s = self._paused_until_s = 0.0
        self._granted_bytes = welcome.window_bytes
        self._window.restart(welcome.window_bytes)
        self._tombstones.restart()
        self._note_progress()
        self._gateways.welcomed(welcome.gateways)
        logger.info(
            "the learner at %s takes episodes as %s", self._gateways.current, welcome.robot_id
        )
        self._was_welcomed.set()

    def _take_refusal(self, refusal: Refusal) -> None:
        now_s = time.monotonic()
        if refusal.sequence is not None and refusal.spool_id == self._outbox.spool_id:
            self._set_aside(refusal, refusal.sequence, now_s)
        elif refusal.code == RefusalCode.SAY_HELLO:
            if self._is_welcome:
                self._is_welcome = False
                self._hello_due_s = 0.0
        elif refusal.code in _TEMPORARY:
            self._say_refused(refusal.reason)
            is_again = self._pause_s > PAUSE_S and now_s >= self._paused_until_s
            self._pause(now_s)
            if is_again and refusal.code in _STORE_TROUBLE:
                self._leave(now_s, "takes nothing")
        elif self._is_welcome and refusal.code in _OWN_DEFECT:
            self._say_refused(refusal.reason)
        else:
            self._take_refused_greeting(refusal, now_s)

    def _set_aside(self, refusal: Refusal, sequence: int, now_s: float) -> None:
        logger.error("episode %d is refused: %s", sequence, printable(refusal.reason))
        try:
            self._outbox.set_aside(sequence, refusal.code, refusal.reason)
        except (OutboxError, OutboxFullError) as error:
            # It stays under way: sent again after the wait for an ack, and refused again.
            logger.warning("episode %d is not set aside: %s", sequence, error)
            return
        self._window.remove([sequence], now_s)
        self._is_stalled = False

    def _take_refused_greeting(self, refusal: Refusal, now_s: float) -> None:
        """Send nothing but a greeting now and then; a robot may be revoked while it delivers."""
        is_old = not self._is_welcome and refusal.code in _OLD_LEARNER
        self._say_refused(
            f"{refusal.reason} (this agent speaks wire version {WIRE_VERSION}: when the learner is "
            "the older of the two, update it before its robots)"
            if is_old
            else refusal.reason
        )
        # The other agent may have been this very robot before it was started again.
        is_rival = refusal.code == RefusalCode.TWO_AGENTS
        self._is_welcome = False
        self._hello_due_s = now_s + (REFUSED_PAUSE_S if is_rival else PAUSE_S)

    def _pause(self, now_s: float) -> None:
        """Send nothing for a while, longer each time until an ack; then a record as a probe."""
        if now_s < self._paused_until_s:
            # About something that was under way when the pause began.
            return
        self._paused_until_s = self._hello_due_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._window.restart(0)
        self._tombstones.restart()

    def _say_refused(self, reason: str) -> None:
        if self._refusal != reason:
            self._refusals.note(logging.ERROR, "the learner", "refuses", reason)
        self._refusal = reason

    def _may_end(self) -> bool:
        if self._close_by_s is None:
            return False
        return time.monotonic() >= self._close_by_s or self._is_drained()

    def _is_drained(self) -> bool:
        return self._outbox.counts().waiting == 0 and not self._outbox.tombstones(limit=1)
