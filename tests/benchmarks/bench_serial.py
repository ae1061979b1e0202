"""What our serial buses cost: six motors read at once, against bare pyserial with the same bytes.

    python -m tests.benchmarks.bench_serial [--seconds 10] [--out FILE]

The other end of the pseudo-terminal is a process that answers with the same bytes every time. On
a real wire the same exchange takes milliseconds at 1 Mbaud: of those, ``share of the wire's time``
is what our code adds.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import serial

from robot_agent.serial_bus import dynamixel, feetech
from robot_agent.serial_bus.dynamixel import DynamixelBus
from robot_agent.serial_bus.feetech import FeetechBus
from robot_agent.serial_bus.port import SerialPort
from robot_agent.serial_bus.servo_bus import ServoBus
from tests.benchmarks.figures import Figure, Findings, add_out_option, figure_of, report

IDS = range(1, 7)
BAUD = 1_000_000
ROUNDS = 10
_ANSWERER = """
import os, sys
fd, size, answer = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
while True:
    left = size
    while left:
        left -= len(os.read(fd, left))
    os.write(fd, answer)
"""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One reading of six motors."""

    make: str
    request: bytes
    answer: bytes
    bus: Callable[..., ServoBus]
    address: int
    length: int


def exchanges() -> list[Exchange]:
    """Return what the drivers of arms read in every cycle."""
    in_dynamixel = struct.pack("<HH", 122, 25) + bytes(IDS)
    return [
        Exchange(
            make="Feetech",
            request=feetech.encode(feetech.BROADCAST_ID, 0x82, bytes((40, 27, *IDS))),
            answer=b"".join(feetech.encode(one, 0, bytes(27)) for one in IDS),
            bus=FeetechBus,
            address=40,
            length=27,
        ),
        Exchange(
            make="Dynamixel",
            request=dynamixel.encode(dynamixel.BROADCAST_ID, 0x82, in_dynamixel),
            answer=b"".join(dynamixel.encode(one, 0x55, bytes(26)) for one in IDS),
            bus=DynamixelBus,
            address=122,
            length=25,
        ),
    ]


@contextmanager
def answerer(exchange: Exchange) -> Iterator[str]:
    """Yield the path of a port at whose other end a process gives the answer."""
    near, far = os.openpty()
    tty.setraw(far)
    arguments = [str(near), str(len(exchange.request)), exchange.answer.hex()]
    process = subprocess.Popen([sys.executable, "-c", _ANSWERER, *arguments], pass_fds=[near])
    try:
        yield os.ttyname(far)
    finally:
        process.kill()
        process.wait()
        os.close(near)
        os.close(far)


def time_bare(exchange: Exchange, path: str, seconds: float) -> float:
    """Return the median time of write and read with pyserial alone, microseconds."""
    with serial.Serial(path, BAUD, timeout=1.0) as port:

        def ask() -> None:
            port.write(exchange.request)
            assert len(port.read(len(exchange.answer))) == len(exchange.answer)

        return _median_us(ask, seconds)


def time_ours(exchange: Exchange, path: str, seconds: float) -> float:
    """Return the median time of our ``sync_read``, microseconds."""
    port = SerialPort(path, baud=BAUD)
    bus = exchange.bus(port, reply_timeout_s=1.0)
    try:
        median_us = _median_us(
            lambda: bus.sync_read(IDS, exchange.address, exchange.length), seconds
        )
        assert port.counters.garbage_bytes == port.counters.retries == 0, port.counters
        return median_us
    finally:
        port.close()


def _median_us(ask: Callable[[], object], seconds: float) -> float:
    times = []
    end_s = time.perf_counter() + seconds
    while not times or time.perf_counter() < end_s:
        began_s = time.perf_counter()
        ask()
        times.append(time.perf_counter() - began_s)
    return float(np.median(times)) * 1e6


def measure(exchange: Exchange, seconds: float) -> list[Figure]:
    """Let both take turns; return the ratio of each round, and what ours adds."""
    turn_s = seconds / ROUNDS / 2
    with answerer(exchange) as path:
        rounds = [
            (time_bare(exchange, path, turn_s), time_ours(exchange, path, turn_s))
            for _ in range(ROUNDS)
        ]
    wire_us = (len(exchange.request) + len(exchange.answer)) * 10 / BAUD * 1e6
    added_us = [ours - bare for bare, ours in rounds]
    name = f"{exchange.make}, six motors at once"
    return [
        figure_of(f"{name}: ours / bare pyserial", [ours / bare for bare, ours in rounds], "x"),
        figure_of(f"{name}: ours", [ours for _, ours in rounds], "us"),
        figure_of(f"{name}: added to bare pyserial", added_us, "us"),
        figure_of(
            f"{name}: added, share of the wire's time",
            [100 * added / wire_us for added in added_us],
            "%",
        ),
    ]


def main() -> None:
    """Measure both makes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="for everything (10)")
    add_out_option(parser)
    options = parser.parse_args()
    chosen = exchanges()
    figures = [one for each in chosen for one in measure(each, options.seconds / len(chosen))]
    settings: dict[str, str | int | float] = {
        "motors": len(IDS),
        "baud": BAUD,
        "rounds": ROUNDS,
        "bytes": ", ".join(f"{len(each.request)} + {len(each.answer)}" for each in chosen),
    }
    report(Findings(title="Serial buses", settings=settings, figures=figures), options.out)


if __name__ == "__main__":
    main()
