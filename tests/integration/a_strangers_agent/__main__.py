"""A robot's agent written from docs/protocol.md alone: pyzmq, msgpack and cryptography.

It has no robot: every line ``attempt`` on its standard input is an attempt with made-up numbers,
every line ``lose`` one that is lost before it is sent. What happens is told on standard output, one
JSON object a line. It does not run the graphs of a release: that needs ONNX Runtime.

    python a_strangers_agent BUNDLE STATE --wire-version 2
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

import zmq
from bundle import Bundle
from deliverer import Deliverer
from fetcher import CHUNK_BYTES, Fetcher
from link import MAX_HEADER_BYTES, Link
from record import make_record
from spool import Spool
from telling import tell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("--wire-version", type=int, default=2)
    options = parser.parse_args()
    bundle, spool = Bundle(options.bundle, options.state), Spool(options.state)
    context = zmq.Context()
    deliverer = Deliverer(
        Link(context, bundle, bundle.episodes, MAX_HEADER_BYTES),
        bundle,
        spool,
        options.wire_version,
    )
    fetcher = Fetcher(
        Link(context, bundle, bundle.releases, MAX_HEADER_BYTES + CHUNK_BYTES),
        bundle,
        options.state,
        options.wire_version,
    )
    tell("ready", spool_id=spool.id.hex())
    while turn(deliverer, fetcher, spool, bundle):
        pass


def turn(deliverer: Deliverer, fetcher: Fetcher, spool: Spool, bundle: Bundle) -> bool:
    """Do what is due; return False when standard input has ended."""
    poller = zmq.Poller()
    for readable in (sys.stdin.fileno(), deliverer.link.socket, fetcher.link.socket):
        poller.register(readable, zmq.POLLIN)
    ready = dict(poller.poll(100))
    if sys.stdin.fileno() in ready:
        commands = os.read(sys.stdin.fileno(), 4096)
        if not commands:
            return False
        for command in commands.split():
            if command == b"attempt":
                record = make_record(bundle.name, fetcher.version)
                sequence = spool.put(record)
                tell("spooled", sequence=sequence, digest=hashlib.sha256(record).hexdigest())
            else:
                tell("lost", sequence=spool.lose())
    now_s = time.monotonic()
    for speaker in (deliverer, fetcher):
        speaker.link.tend(now_s)
        speaker.turn(now_s)
    deliverer.release_version = fetcher.version
    return True


if __name__ == "__main__":
    main()
