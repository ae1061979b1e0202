"""What the harness asks of every system's adapter, and how its agents are run and counted.

Standard library only: an adapter of a peer runs in an environment that holds the peer and nothing
of ours. An adapter is a program of two commands, which answer in a file, since a library may print
whatever it likes:

    serve ANSWER FOLDER VARIANT    serve until stdin is closed; answer with an Address
    load ANSWER LOAD ADDRESS       run agents against it; answer with a Count
"""

from __future__ import annotations

import json
import multiprocessing
import os
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Kind = Literal["jpeg", "raw"]
CONNECT_S = 60.0
"""By then every agent has its first ack."""
_SIZE = struct.Struct("<I")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a system listens."""

    address: str
    pids: Sequence[int]
    """The processes that take episodes and ack them: the learner's."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the agents of one measurement do."""

    kind: Kind
    agents: int
    window: int
    """Episodes that one agent has under way."""
    warm_up_s: float
    seconds: float
    episodes: str
    """Folder of the episodes, see ``write_episodes``."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """What one measurement found."""

    episodes: int
    """Acked to all agents within ``seconds``."""
    seconds: float
    server_cpu_s: float
    """User and system time of the processes that acked them, all their threads."""


class Adapter(Protocol):
    """How one system takes episodes."""

    def serve(self, folder: Path, variant: str) -> AbstractContextManager[Address]:
        """Serve while the context is open."""

    def deliver(
        self, address: str, agent: int, load: Load, episodes: Sequence[bytes]
    ) -> Iterator[int]:
        """Deliver the episodes over and over, ``load.window`` of them under way.

        Yields:
            How many more were acked; for the first time once it is connected.
        """


def agent_name(agent: int) -> str:
    """Return the name that an agent is enrolled under, and that its JPEG records carry."""
    return f"agent-{agent}"


def write_episodes(path: Path, episodes: Sequence[bytes]) -> None:
    """Write episodes so that ``read_episodes`` returns them."""
    path.write_bytes(b"".join(_SIZE.pack(len(one)) + one for one in episodes))


def read_episodes(path: Path) -> list[bytes]:
    """Return what ``write_episodes`` wrote."""
    data, offset, episodes = path.read_bytes(), 0, []
    while offset < len(data):
        (size,) = _SIZE.unpack_from(data, offset)
        offset += _SIZE.size
        episodes.append(data[offset : offset + size])
        offset += size
    return episodes


def episodes_file(folder: Path, kind: Kind, agent: int) -> Path:
    """Return where an agent's episodes are; raw ones carry no name and are everybody's."""
    return folder / ("raw" if kind == "raw" else f"jpeg-{agent}")


def in_order(
    send: Callable[[int], Any], wait: Callable[[list[Any]], object], window: int
) -> Iterator[int]:
    """Keep ``window`` calls under way whose answers come in order; wait for an eighth at a time.

    Args:
        send: starts the call of this number and returns its future.
        wait: returns when all of these futures are done.
        window: calls under way.
    """
    piece, number = max(1, window // 8), 0
    under_way: deque[Any] = deque()
    while True:
        while len(under_way) < window:
            under_way.append(send(number))
            number += 1
        wait([under_way.popleft() for _ in range(piece)])
        yield piece


def main(adapter: Adapter) -> None:
    """Run one of the two commands."""
    command, answer, first, second = sys.argv[1:]
    if command == "serve":
        with adapter.serve(Path(first), second) as address:
            _answer(Path(answer), asdict(address))
            sys.stdin.read()
    else:
        count = run_load(adapter, Load(**json.loads(first)), Address(**json.loads(second)))
        _answer(Path(answer), asdict(count))


def _answer(path: Path, value: dict[str, Any]) -> None:
    # Renamed, so that whoever waits for the file never reads a part of it.
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.rename(path)


def run_load(adapter: Adapter, load: Load, address: Address) -> Count:
    """Run the agents, each a process, and count what is acked to them between two moments.

    They are forked once everything is imported: 32 interpreters that each load a large package
    would take longer than the measurement.

    Raises:
        SystemExit: an agent ended, or had no ack for CONNECT_S.
    """
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(load.agents + 1)
    begin_s = context.Value("d", 0.0, lock=False)
    counts = context.Array("q", load.agents, lock=False)
    processes = [
        context.Process(
            target=_run_agent, args=(adapter, load, address, agent, barrier, begin_s, counts)
        )
        for agent in range(load.agents)
    ]
    for process in processes:
        process.start()
    try:
        _wait_for(processes, barrier)
        begin_s.value = time.monotonic() + load.warm_up_s
        barrier.wait()
        server_cpu_s = _cpu_between(address.pids, begin_s.value, begin_s.value + load.seconds)
        if any(process.exitcode is not None for process in processes):
            sys.exit("an agent ended while it was measured")
    finally:
        for process in processes:
            process.kill()
            process.join()
    return Count(episodes=sum(counts), seconds=load.seconds, server_cpu_s=server_cpu_s)


def _wait_for(processes: Sequence[Any], barrier: Any) -> None:
    """Return when every agent has its connection."""
    deadline_s = time.monotonic() + CONNECT_S
    while (begun := barrier.n_waiting) < len(processes):
        if any(process.exitcode is not None for process in processes):
            sys.exit("an agent ended before all had begun")
        if time.monotonic() > deadline_s:
            sys.exit(f"{begun} of {len(processes)} agents had an ack after {CONNECT_S:.0f} s")
        time.sleep(0.01)


def _run_agent(
    adapter: Adapter,
    load: Load,
    address: Address,
    agent: int,
    barrier: Any,
    begin_s: Any,
    counts: Any,
) -> None:
    episodes = read_episodes(episodes_file(Path(load.episodes), load.kind, agent))
    acks = adapter.deliver(address.address, agent, load, episodes)
    next(acks)
    barrier.wait(CONNECT_S)
    end_s = begin_s.value + load.seconds
    for acked in acks:
        now_s = time.monotonic()
        if now_s >= end_s:
            break
        if now_s >= begin_s.value:
            counts[agent] += acked
    # Whoever closes its connection now would take time from those that still count.
    time.sleep(CONNECT_S)


def _cpu_between(pids: Sequence[int], begin_s: float, end_s: float) -> float:
    """Return the CPU seconds that processes use between two moments yet to come."""
    time.sleep(max(0.0, begin_s - time.monotonic()))
    before_s = sum(map(_cpu_s, pids))
    time.sleep(max(0.0, end_s - time.monotonic()))
    return sum(map(_cpu_s, pids)) - before_s


def _cpu_s(pid: int) -> float:
    # The name in the second field may hold spaces; fields are counted from its closing bracket.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
