"""What the gateway is measured against: the same bytes with fewer promises.

Every ``serve_*`` runs in a process of its own: it binds, sets ``ready``, serves until ``stop`` is
set, and leaves the CPU seconds of its process (all threads, user and system) in ``cpu_s``. A client
sends ``[header][record]`` and gets its own header back as the ack. Nobody is authenticated beyond
CURVE's handshake and nothing is checked.
"""

from __future__ import annotations

import itertools
import os
import struct
import time
from collections.abc import Sequence
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import lmdb
import zmq

from protocol.limits import EPISODE_LIMITS, MAX_HEADER_BYTES
from protocol.security import CurveKeys
from protocol.sockets import SocketLimits

LIMITS = SocketLimits(frame_bytes=EPISODE_LIMITS.record_bytes + MAX_HEADER_BYTES)
STORE_BYTES = 8 * 10**9
GROUP = 64
"""Records of one commit where they do not come over a socket."""
_MAX_GROUP = 512
_POLL_MS = 100
_NUMBER = struct.Struct(">Q")


def serve_bare(
    endpoint: str, keys: CurveKeys | None, ready: Event, stop: Event, cpu_s: Synchronized[float]
) -> None:
    """Ack every record at once and forget it; under CURVE unless ``keys`` is None."""
    router = _bound_router(endpoint, keys)
    began_s = time.process_time()
    ready.set()
    while not stop.is_set():
        if router.poll(_POLL_MS):
            routing_id, header, _record = router.recv_multipart(copy=False)
            router.send_multipart([routing_id, header], copy=False)
    cpu_s.value = time.process_time() - began_s


def serve_bare_and_commit(
    endpoint: str,
    keys: CurveKeys | None,
    folder: Path,
    ready: Event,
    stop: Event,
    cpu_s: Synchronized[float],
) -> None:
    """Commit what has arrived to LMDB in one transaction, then ack it; on one thread."""
    router = _bound_router(endpoint, keys)
    log = RecordLog(folder)
    began_s = time.process_time()
    ready.set()
    while not stop.is_set():
        if router.poll(_POLL_MS):
            group = _waiting(router)
            log.commit([record.buffer for _, _, record in group])
            for routing_id, header, _ in group:
                router.send_multipart([routing_id, header], copy=False)
    cpu_s.value = time.process_time() - began_s


def commit_cpu_s(
    folder: Path, records: Sequence[bytes], seconds: float, group: int = GROUP
) -> float:
    """Commit ``records`` over and over; return the CPU seconds that one record takes."""
    log = RecordLog(folder)
    source = itertools.cycle(records)
    began_s, end_s = time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end_s:
        log.commit([next(source) for _ in range(group)])
    return (time.process_time() - began_s) / log.number


def sync_times_s(folder: Path, record: bytes, every_s: float, count: int) -> list[float]:
    """Append a record to a file every ``every_s``; return how long each write and sync took."""
    times_s = []
    file = os.open(folder / "appended", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for _ in range(count):
        began_s = time.monotonic()
        os.write(file, record)
        os.fdatasync(file)
        times_s.append(time.monotonic() - began_s)
        time.sleep(max(0.0, every_s - times_s[-1]))
    os.close(file)
    return times_s


class RecordLog:
    """Records by number in LMDB, opened as the episode store opens its file."""

    def __init__(self, folder: Path) -> None:
        self._environment: Any = lmdb.open(str(folder), map_size=STORE_BYTES, readahead=False)
        self.number = 0
        """Of the last record."""

    def commit(self, records: Sequence[Any]) -> None:
        """Store bytes or buffers; when this returns, they are on disk."""
        with self._environment.begin(write=True) as transaction:
            for record in records:
                self.number += 1
                transaction.put(_NUMBER.pack(self.number), record, append=True)


def _bound_router(endpoint: str, keys: CurveKeys | None) -> zmq.Socket[bytes]:
    router = zmq.Context().socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    router.setsockopt(zmq.MAXMSGSIZE, LIMITS.frame_bytes)
    router.setsockopt(zmq.RCVHWM, LIMITS.receive_queue)
    router.setsockopt(zmq.SNDHWM, LIMITS.send_queue)
    if keys is not None:
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        router.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    router.bind(endpoint)
    return router


def _waiting(router: zmq.Socket[bytes]) -> list[list[zmq.Frame]]:
    group: list[list[zmq.Frame]] = []
    while len(group) < _MAX_GROUP:
        try:
            group.append(router.recv_multipart(zmq.NOBLOCK, copy=False))
        except zmq.Again:
            break
    return group
