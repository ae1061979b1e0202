"""The learner's reception with a real store behind it, and the agent's uplink before an outbox."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from itertools import count
from pathlib import Path
from typing import cast

import zmq

from learner.ingestion.committer import Answer, Committer, Delivery, Sender
from learner.ingestion.envelope import Envelope
from learner.ingestion.neighbours import Neighbours
from learner.ingestion.reception import Reception
from learner.ingestion.sessions import Sessions
from learner.ingestion.stop_orders import STOPS_FILE, StopOrders
from learner.monitoring.fleet_state import FleetState
from learner.store.episode_store import EpisodeStore
from learner.store.stored_episode import Burial
from protocol.codec import encode_episode
from protocol.messages import Ack, EpisodeSubmission, Refusal, StatusReply, Welcome
from protocol.refusal_log import RefusalLog
from protocol.server_key import ServerKey
from tests.delivery_site import DeliverySite, make_site
from tests.episodes import make_episode
from tests.fuzz.conversation import mutate_conversation, turns_of, written
from tests.fuzz.fuzz_target import FuzzTarget, Run
from tests.fuzz.message_targets import FROM_GATEWAY, HELLO, SPOOL, TO_GATEWAY

INPUTS_PER_STORE = 2000
"""A store that grows for ever would be another test."""
STORE_BYTES = 2**30
WAITING = 8
ANSWERED_WITHIN_S = 30.0


class _Frame:
    """What a zmq.Frame says of who sent it."""

    def __init__(self, data: bytes, key: str) -> None:
        self.bytes = data
        self._key = key

    def get(self, name: str) -> str:
        return self._key if name == "User-Id" else "127.0.0.1"


class _Learner:
    """Everything of a gateway but its socket."""

    def __init__(self, site: DeliverySite) -> None:
        self._site = site
        self._folder = Path(tempfile.mkdtemp())
        self._fleet = FleetState()
        self._refusals = RefusalLog(logging.getLogger("fuzz"))
        self._answered = threading.Event()
        self._fences = count(1)
        self.store = EpisodeStore(self._folder, STORE_BYTES)
        self._committer = Committer(self.store, self._fleet, self._refusals, self._answered.set)
        self._committer.start()

    def reception(self) -> Reception:
        """Return one that knows nobody yet, and has not counted anybody's messages."""
        return Reception(
            registry=self._site.registry,
            store=self.store,
            committer=self._committer,
            fleet=self._fleet,
            window_bytes=8_000_000,
            key=ServerKey(self._site.folder / "keys" / "learner.secret"),
            refusals=self._refusals,
            status=self._status,
            is_connected=lambda _: True,
            send=lambda _, __: None,
            stops=StopOrders(self._folder / STOPS_FILE),
            sessions=Sessions(),
            neighbours=Neighbours(),
            own_endpoint=lambda: "",
        )

    def answers(self) -> list[Answer]:
        """Return what the committer says to everything so far."""
        number = next(self._fences)
        fence = Sender(routing_id=b"fence", robot_id="fence")
        end = Burial(
            robot_id="fence",
            spool_id=bytes(16),
            sequence=number,
            last_sequence=number,
            reason="",
        )
        self._committer.submit(Delivery(sender=fence, item=end))
        self._committer.commit_submitted()
        answers: list[Answer] = []
        while not any(answer.sender == fence for answer in answers):
            assert self._answered.wait(ANSWERED_WITHIN_S), "the committer answers no more"
            self._answered.clear()
            answers += self._committer.take_answers()
        return [answer for answer in answers if answer.sender != fence]

    def close(self) -> None:
        self._committer.stop()
        self.store.close()
        shutil.rmtree(self._folder)

    def _status(self) -> StatusReply:
        robots = [self._fleet.status_of(one, self.store.ledger(one)) for one in ("arm", "leg")]
        return StatusReply(
            uptime_s=0.0,
            release_version=0,
            releases_published=0,
            release_latency_ms=[],
            episodes_stored=self.store.last_commit(),
            robots=robots,
        )


def _prepare_reception() -> Run:
    site = make_site(Path(tempfile.mkdtemp()))
    keys = [site.enrol(name).public.decode() for name in ("arm", "leg")]
    keys += [site.enrol("desk", "operator").public.decode(), "a stranger's key"]
    learner = _Learner(site)
    inputs = count(1)

    def run(data: bytes) -> str:
        nonlocal learner
        turns = list(turns_of(data))
        if next(inputs) % INPUTS_PER_STORE == 0:
            learner.close()
            learner = _Learner(site)
        reception = learner.reception()
        said: list[str] = []
        for turn in turns:
            frame = cast(zmq.Frame, _Frame(turn.header, keys[turn.who % len(keys)]))
            where = bytes([turn.who % 251])
            answer = reception.answer(Envelope(routing_id=where, frame=frame, bodies=turn.bodies))
            said.append(_kind(answer))
        said += [_kind(answer.message) for answer in learner.answers()]
        for name in ("arm", "leg"):
            ledger = learner.store.ledger(name)
            assert min(ledger.missing, ledger.tombstoned, ledger.stored) >= 0, ledger
        return " ".join(sorted(set(said)))

    return run


def _kind(answer: object) -> str:
    if isinstance(answer, Refusal):
        return answer.code
    if isinstance(answer, Ack):
        assert 0 < len(answer.sequences) <= 4096
        return "ack"
    return type(answer).__name__


def _reception_seeds() -> list[bytes]:
    record = encode_episode(make_episode("arm", 1, 1, side_px=16))
    episode = EpisodeSubmission(spool_id=SPOOL, sequence=1, digest=bytes(32))
    other = EpisodeSubmission(spool_id=SPOOL, sequence=9, digest=bytes(32))
    _, _, tombstone, heartbeat, question, stop, stopped = TO_GATEWAY
    hello = (0, HELLO, [])
    return [
        written(hello, (0, episode, [record])),
        written(hello, (0, heartbeat, []), (0, tombstone, []), (0, other, [record])),
        written(hello, (4, HELLO, []), (1, HELLO, []), (3, HELLO, []), (0, episode, [])),
        written((2, question, []), (0, question, []), (2, HELLO, [])),
        written(hello, (2, stop, []), (0, heartbeat, []), (0, stopped, []), (0, stop, [])),
    ]


def _prepare_uplink() -> Run:
    site = make_site(Path(tempfile.mkdtemp()))
    site.enrol("arm")
    outbox = site.outbox("arm")
    record = encode_episode(make_episode("arm", 1, 1, side_px=16))

    def run(data: bytes) -> str:
        while outbox.counts().waiting < WAITING:
            outbox.put(record)
        before = outbox.counts()
        uplink = site.uplink("arm", outbox)
        for turn in turns_of(data):
            # The outbox draws its own id; the input stands for it with that of the seeds.
            uplink._take([turn.header.replace(SPOOL, outbox.spool_id), *turn.bodies])
        after = outbox.counts()
        assert after.acked == before.acked, "an ack of what was never sent was believed"
        uplink.close(0.0)
        # Without its thread, the socket that a redirect has opened is nobody else's to close.
        uplink._connection.close()
        return f"welcome {uplink.stats.is_welcome}, {after.refused - before.refused} refused"

    return run


def _uplink_seeds() -> list[bytes]:
    _, welcome, redirect, ack, refusal, hello_again, notice, stop, *_ = FROM_GATEWAY
    assert isinstance(welcome, Welcome)
    return [
        written((0, redirect, []), (0, welcome, []), (0, redirect, [])),
        written((0, welcome, []), (0, ack, [])),
        written((0, welcome, []), (0, refusal, []), (0, hello_again, [])),
        written((0, notice, []), (0, welcome, [])),
        written((0, welcome, []), (0, stop, []), (0, stop, [])),
    ]


CONVERSATION_TARGETS = [
    FuzzTarget(
        name="reception",
        prepare=_prepare_reception,
        seeds=_reception_seeds,
        mutate=mutate_conversation,
        share=2.0,
    ),
    FuzzTarget(
        name="uplink", prepare=_prepare_uplink, seeds=_uplink_seeds, mutate=mutate_conversation
    ),
]
