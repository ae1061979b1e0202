"""The gateway: where robots deliver their episodes.

One thread owns the ROUTER socket; another (see committer) writes to the store. They take turns at
the interpreter: one receives while the disk syncs what the other wrote. A slow disk silences
nobody. A thread of libzmq goes on receiving and decrypting all the while. Who speaks is looked up
by the key that authenticated the very message, never by anything in it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec
import zmq

from learner.config import EVERY_ADDRESS, GatewayConfig
from learner.ingestion.admission import ImageSize
from learner.ingestion.committer import Committer
from learner.ingestion.envelope import Envelope, receive_envelope
from learner.ingestion.gateway_report import GatewayReport, HeardReport
from learner.ingestion.neighbours import Neighbours
from learner.ingestion.observer import FleetObserver
from learner.ingestion.reception import Reception
from learner.ingestion.sessions import Sessions
from learner.ingestion.status_desk import StatusDesk
from learner.ingestion.stop_orders import STOPS_FILE, StopOrders
from learner.monitoring.attempt_counts import AttemptCounts
from learner.monitoring.drift_file import DRIFT_FILE
from learner.monitoring.drift_watch import DriftWatch
from learner.monitoring.fleet_state import FleetState
from learner.monitoring.metrics_server import MetricsServer
from learner.monitoring.training_report import TrainingReport
from learner.store.episode_store import EpisodeStore
from learner.store.retention import RetentionLimits
from protocol.authentication import RegistryAuthenticator
from protocol.codec import encode_message
from protocol.limits import EPISODE_LIMITS, MAX_HEADER_BYTES, MAX_QUEUED_BYTES
from protocol.messages import Ack, StatusReply
from protocol.process_memory import keep_freed
from protocol.refusal_log import RefusalLog
from protocol.registry import Registry
from protocol.server_key import ServerKey
from protocol.server_socket import ServerSocket
from protocol.sockets import SocketLimits
from protocol.wakeup import Wakeup

logger = logging.getLogger(__name__)

_LIMITS = SocketLimits(frame_bytes=EPISODE_LIMITS.record_bytes + MAX_HEADER_BYTES)
_RECEIVED_PER_TURN = 128
# Numbers: combining pyzmq's own flags, which are enumerations, costs more than sending a message.
_NOBLOCK, _SEND_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_PATIENCE_S = 0.1
"""How long nothing is received while a group is stored. A slower disk must not silence the learner:
it answers greetings and operators meanwhile, and receives the next group."""
_HOUSEKEEPING_S = 10.0
_FLUSH_MS = 1_000
# No agent has a spool of this name: an ack that says nothing to anybody.
_NOTHING = encode_message(Ack(spool_id=bytes(16), sequences=[]))
_DAY_S = 86_400.0


class Gateway:
    """Receives, stores and acks episodes until it is stopped."""

    def __init__(
        self,
        config: GatewayConfig,
        server_secret: Path,
        registry_folder: Path,
        image_size_px: ImageSize | None = None,
        *,
        host: str = "",
        others: Sequence[str] = (),
    ) -> None:
        """Read the key and open the store; nothing is received before ``start``.

        Args:
            config: endpoints, folders and limits.
            server_secret: file of the learner's secret key; looked at again while it runs.
            registry_folder: the enrolled robots' public keys.
            image_size_px: what robots' pictures must measure; None admits any.
            host: under which robots reach this machine, where the gateway listens at every address.
            others: the fleet's other gateways, as they are called until they are heard; see
                GatewayConfig.name.

        Raises:
            ConfigurationError: the key file is missing, open to others, or no key.
            StoreError: the store is damaged or of another format.
        """
        self._config = config
        self._refusals = RefusalLog(logger)
        self._key = ServerKey(server_secret, self._refusals)
        self._registry = Registry(registry_folder)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator = RegistryAuthenticator(self._context, self._registry, self._refusals)
        self._socket = ServerSocket(self._context, self._key, _LIMITS, self._refusals)
        self._wakeup = Wakeup()
        self._fleet = FleetState()
        self._neighbours = Neighbours(others)
        keep = RetentionLimits(age_s=config.keep_days * _DAY_S, log_bytes=config.keep_bytes)
        self._store = EpisodeStore(config.store, config.max_store_bytes, keep=keep)
        self._drift = DriftWatch(
            config.store / DRIFT_FILE, newest_release=lambda: self._fleet.release_version
        )
        self._committer = Committer(
            self._store,
            self._fleet,
            self._refusals,
            self._wakeup.set,
            attempts := AttemptCounts(),
            self._drift,
        )
        self._stops = StopOrders(config.store / STOPS_FILE)
        self._observer = FleetObserver(
            config,
            registry=self._registry,
            store=self._store,
            fleet=self._fleet,
            committer=self._committer,
            attempts=attempts,
            drift=self._drift,
            refusals=self.refusals,
            missing=lambda: self._desk.missing(),
        )
        sessions = Sessions()
        self._desk = StatusDesk(
            registry=self._registry,
            store=self._store,
            fleet=self._fleet,
            drift=self._drift,
            stops=self._stops,
            sessions=sessions,
            socket=self._socket,
            neighbours=self._neighbours,
            condition=self._observer.condition,
            own_endpoint=lambda: self.advertised,
        )
        self._metrics: MetricsServer | None = None
        self._reception = Reception(
            registry=self._registry,
            store=self._store,
            committer=self._committer,
            fleet=self._fleet,
            window_bytes=config.window_bytes,
            key=self._key,
            refusals=self._refusals,
            status=self._desk.status,
            sessions=sessions,
            neighbours=self._neighbours,
            own_endpoint=lambda: self.advertised,
            is_connected=self._is_connected,
            send=self._send,
            stops=self._stops,
            image_size_px=image_size_px,
        )
        self._host = f"[{host}]" if ":" in host else host
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.endpoint = ""
        """Where it listens, once started."""

    def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationError: the port is in use, the endpoint is malformed, or there is no
                registry.
        """
        self._registry.members()
        keep_freed()
        self._authenticator.start()
        try:
            self.endpoint = self._socket.open(self._config.bind)
            if self._config.metrics.bind:
                self._metrics = MetricsServer(self._config.metrics.bind, self._observer.snapshot)
        except BaseException:
            self._release()
            raise
        self._committer.start()
        self._drift.start()
        if self._metrics is not None:
            self._metrics.start()
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self._thread.start()
        logger.info(
            "gateway listens at %s, %d episodes stored", self.endpoint, self._store.last_commit()
        )

    def stop(self) -> None:
        """Store and ack what was received, then close everything."""
        if self._thread is None:
            return
        self._stopping = True
        self._wakeup.set()
        self._thread.join()
        self._thread = None
        self._release()

    @property
    def is_stopping(self) -> bool:
        """True once ``stop`` was called."""
        return self._stopping

    def is_alive(self) -> bool:
        """Say whether the gateway still receives; False is a defect unless it was stopped."""
        return self._thread is not None and self._thread.is_alive()

    def join(self) -> None:
        """Wait until the gateway's thread ends, by ``stop`` or by a defect."""
        thread = self._thread
        if thread is not None:
            thread.join()

    @property
    def metrics_endpoint(self) -> str:
        """``host:port`` where Prometheus reads, once started; "" for nowhere."""
        return self._metrics.endpoint if self._metrics is not None else ""

    def note_training(self, report: TrainingReport) -> None:
        """See FleetObserver.note_training."""
        self._observer.note_training(report)
        self._fleet.note_release(report.release_version)

    def release_published(self, version: int, pinned: Collection[str] = ()) -> None:
        """See FleetState.release_published."""
        self._fleet.release_published(version, pinned)

    def note_pins(self, pinned: Collection[str]) -> None:
        """See FleetState.note_pins."""
        self._fleet.note_pins(pinned)

    def refusals(self) -> dict[str, int]:
        """Return how many messages and connections were refused, by reason."""
        return self._fleet.refusals() | {
            "connection": self._authenticator.refused,
            "server-key": self._socket.strangers,
        }

    @property
    def advertised(self) -> str:
        """``tcp://host:port`` under which robots reach it."""
        return self._config.advertise or EVERY_ADDRESS.sub(f"tcp://{self._host}:", self.endpoint)

    def hear(self, others: Sequence[HeardReport]) -> None:
        """Take what the fleet's other gateways said last. Any thread may call this.

        An order to stop that only they were given is told to its robot with its next heartbeat.
        """
        self._stops.hear(one.report.stops for one in others)
        # Only now: who was waiting for it is welcomed, and begins to move.
        self._neighbours.hear(others)
        self._wakeup.set()

    def report(self) -> GatewayReport:
        """See StatusDesk.report."""
        return self._desk.report()

    def status(self) -> StatusReply:
        """See StatusDesk.status."""
        return self._desk.status()

    def kept_digests(
        self, robot_id: str, spool_id: bytes, sequences: Sequence[int]
    ) -> dict[int, bytes]:
        """See EpisodeStore.kept_digests."""
        return self._store.kept_digests(robot_id, spool_id, sequences)

    def retire_copies(
        self, robot_id: str, spool_id: bytes, digests: Mapping[int, bytes]
    ) -> list[int]:
        """See EpisodeStore.retire_copies."""
        return self._store.retire_copies(robot_id, spool_id, digests)

    def _run(self) -> None:
        try:
            self._serve()
        except Exception:
            logger.critical("the gateway ended by an error of its own", exc_info=True)
            raise
        finally:
            self._committer.stop()
            self._send_answers()
            self._socket.close(_FLUSH_MS)

    def _serve(self) -> None:
        tidy_at_s = time.monotonic() + _HOUSEKEEPING_S
        while not self._stopping:
            has_room = self._committer.queued_bytes < MAX_QUEUED_BYTES
            has_messages = self._socket.wait(1.0, self._wakeup, for_messages=has_room)
            for envelope in self._reception.due_greetings():
                self._answer(envelope)
            if has_messages:
                self._receive()
                self._committer.commit_submitted(_PATIENCE_S)
            # Not sooner: answers that were waited for need not wake it.
            self._wakeup.clear()
            self._send_answers()
            self._socket.tend(MAX_QUEUED_BYTES + self._reception.granted_bytes)
            if time.monotonic() >= tidy_at_s:
                self._reception.tidy()
                self._observer.sample()
                self._desk.note_the_hour()
                tidy_at_s = time.monotonic() + _HOUSEKEEPING_S

    def _receive(self) -> None:
        """Take what has arrived, but not so much that answers would wait."""
        self._reception.look_up_anew()
        for _ in range(_RECEIVED_PER_TURN):
            try:
                envelope = receive_envelope(self._socket.socket)
            except zmq.Again:
                return
            self._answer(envelope)

    def _answer(self, envelope: Envelope) -> None:
        try:
            answer = self._reception.answer(envelope)
            if answer is not None:
                self._send(envelope.routing_id, answer)
                # Whoever has an answer may act on it before this turn ends.
                self._reception.look_up_anew()
        except Exception:
            # One message must never end the gateway, whatever is wrong with it.
            logger.exception("a message could not be handled")

    def _send_answers(self) -> None:
        for answer in self._committer.take_answers():
            self._send(answer.sender.routing_id, answer.message)

    def _send(self, routing_id: bytes, message: msgspec.Struct) -> None:
        # ROUTER drops what cannot be delivered; the robot will ask or send again.
        encoded = encode_message(message)
        router = self._socket.socket
        router.send(routing_id, _SEND_MORE)
        router.send(encoded, _NOBLOCK)

    def _is_connected(self, routing_id: bytes) -> bool:
        """Say whether a connection is still there, by sending it what no agent heeds."""
        router = self._socket.socket
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        try:
            router.send_multipart([routing_id, _NOTHING], zmq.NOBLOCK)
        except zmq.Again:
            return True
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise
        finally:
            router.setsockopt(zmq.ROUTER_MANDATORY, 0)
        return True

    def _release(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
        self._drift.stop()
        self._authenticator.stop()
        self._context.term()
        self._store.close()
        self._wakeup.close()
