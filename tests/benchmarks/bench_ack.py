"""How long an agent waits for its ack at a moderate load, against what it takes at the least.

    python -m tests.benchmarks.bench_ack --seconds 120 --out FILE

Eight agents deliver 40 episodes a second in total, each at intervals of its own. Three sides take
turns of a few seconds, so that they see the same machine: our gateway; a bare ROUTER under CURVE,
which acks from RAM; and a process that appends a record to a file and syncs it as often. What an
ack costs at the least is a bare round trip plus one such sync.
"""

from __future__ import annotations

import argparse
import heapq
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zmq

from protocol.codec import decode_message, digest, encode_episode
from protocol.messages import Ack, FromGateway
from protocol.sockets import connect, make_dealer
from tests.benchmarks.baselines import LIMITS, sync_times_s
from tests.benchmarks.episodes import EPISODES, benchmark_episode
from tests.benchmarks.figures import Figure, Findings, add_out_option, report
from tests.benchmarks.peers.contract import agent_name
from tests.benchmarks.peers.gateway import greet, submission
from tests.benchmarks.peers.measurement import WORK, served
from tests.benchmarks.peers.systems import BARE_CURVE, OURS
from tests.delivery_site import DeliverySite

AGENTS = 8
PER_SECOND = 40
TURN_S = 3.0
"""How long one side has the machine for itself."""
_SHORTEST_TURN_S = 0.25
SPREAD_GROUPS = 3
"""The rounds are split into so many parts, whose figures are the spread."""
_SEED = 4
_SETUP_S = 10.0
_ACK_MS = 10_000


class Side:
    """Eight agents' connections to one server."""

    def __init__(self, site: DeliverySite, *, is_ours: bool) -> None:
        self._is_ours = is_ours
        context = zmq.Context()
        self._poller = zmq.Poller()
        self.agents = []
        for number in range(AGENTS):
            name = agent_name(number)
            keys = site.keys_of(name if is_ours else "agent")
            dealer = make_dealer(context, keys, site.server_public(), LIMITS)
            connect(dealer, site.endpoint)
            spool_id = name.encode().ljust(16, b"\0")
            if is_ours:
                greet(dealer, name, spool_id)
            self._poller.register(dealer, zmq.POLLIN)
            self.agents.append(_Agent(dealer, spool_id, number))

    def ack_times_s(self, seconds: float, rng: random.Random) -> list[float]:
        """Deliver for ``seconds``; return how long each ack took."""
        interval_s = AGENTS / PER_SECOND
        began_s = time.monotonic()
        due = [(began_s + rng.uniform(0, interval_s), number) for number in range(AGENTS)]
        heapq.heapify(due)
        times_s: list[float] = []
        while due[0][0] < began_s + seconds:
            due_s, number = due[0]
            self._take_acks(times_s, until_s=due_s)
            self.agents[number].send()
            heapq.heapreplace(due, (due_s + rng.uniform(0.8, 1.2) * interval_s, number))
        while any(agent.sent_s for agent in self.agents):
            self._take_acks(times_s, until_s=None)
        return times_s

    def _take_acks(self, times_s: list[float], until_s: float | None) -> None:
        """Take acks as they come until a moment, or one round of them without one."""
        while True:
            left_ms = _ACK_MS if until_s is None else 1000 * (until_s - time.monotonic())
            if until_s is not None and left_ms <= 0:
                return
            # epoll counts in milliseconds: the last one is spent asking.
            ready = dict(self._poller.poll(left_ms if until_s is None else int(left_ms)))
            for agent in self.agents:
                if agent.dealer in ready:
                    times_s += agent.take_ack(is_ours=self._is_ours)
            if until_s is None:
                if not ready:
                    raise SystemExit(f"no ack within {_ACK_MS / 1000:.0f} s")
                return


class _Agent:
    """One connection; what is under way is acked in order."""

    def __init__(self, dealer: zmq.Socket[bytes], spool_id: bytes, number: int) -> None:
        self.dealer = dealer
        self.sent_s: list[float] = []
        """When each episode under way was sent."""
        self._spool_id = spool_id
        self._sequence = 0
        records = [
            encode_episode(benchmark_episode(agent_name(number), seed)) for seed in range(EPISODES)
        ]
        self._records = [(record, digest(record)) for record in records]

    def send(self) -> None:
        self._sequence += 1
        frames = submission(
            self._spool_id, self._sequence, *self._records[self._sequence % EPISODES]
        )
        self.sent_s.append(time.monotonic())
        self.dealer.send_multipart(frames)

    def take_ack(self, *, is_ours: bool) -> list[float]:
        """Return how long what is now acked took."""
        frame = self.dealer.recv()
        now_s = time.monotonic()
        count = 1
        if is_ours:
            ack = decode_message(frame, FromGateway)
            if not isinstance(ack, Ack):
                raise SystemExit(f"the gateway answers {ack}")
            count = len(ack.sequences)
        acked, self.sent_s = self.sent_s[:count], self.sent_s[count:]
        return [now_s - sent_s for sent_s in acked]


@dataclass(frozen=True, kw_only=True)
class Round:
    """What the three sides took, in seconds."""

    ours: list[float]
    bare: list[float]
    sync: list[float]

    def floor(self) -> np.ndarray:
        """Return bare round trips, each with one sync."""
        count = min(len(self.bare), len(self.sync))
        return np.array(self.bare[:count]) + np.array(self.sync[:count])


def main() -> None:
    arguments = _parser().parse_args()
    count = max(SPREAD_GROUPS, round((arguments.seconds - _SETUP_S) / (3 * TURN_S)))
    rounds = measure(count, TURN_S if arguments.seconds > _SETUP_S else _SHORTEST_TURN_S)
    findings = Findings(
        title="Ack: from sending to the ack, 8 agents, 40 episodes/s in total",
        settings={
            "agents": AGENTS,
            "per_second": PER_SECOND,
            "rounds": len(rounds),
            "acks": sum(len(one.ours) for one in rounds),
            "seed": _SEED,
        },
        figures=figures_of(rounds),
    )
    report(findings, arguments.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="budget (120)")
    add_out_option(parser)
    return parser


def measure(count: int, turn_s: float) -> list[Round]:
    """Let the three sides take turns, ``count`` times after a first round that does not count."""
    rng = random.Random(_SEED)
    with ExitStack() as stack:
        sides = []
        for system in (OURS, BARE_CURVE):
            site = stack.enter_context(served(system))
            sides.append(Side(DeliverySite(site), is_ours=system is OURS))
        ours, bare = sides
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=WORK)))
        record = encode_episode(benchmark_episode(agent_name(0), 0))
        rounds = [
            Round(
                ours=ours.ack_times_s(turn_s, rng),
                bare=bare.ack_times_s(turn_s, rng),
                sync=sync_times_s(folder, record, 1 / PER_SECOND, int(turn_s * PER_SECOND)),
            )
            for _ in range(count + 1)
        ]
    return rounds[1:]


def figures_of(rounds: Sequence[Round]) -> list[Figure]:
    """Return the times and their ratios over all rounds, with the spread over parts of them."""
    figures = []
    for percent, bound in ((50, "<= 1.5"), (99, "<= 2")):
        times = [_percentiles_ms(part, percent) for part in _parts(rounds)]
        whole = _percentiles_ms(rounds, percent)
        for index, side in enumerate(("ours", "bare + sync", "bare", "sync")):
            figures.append(
                _figure(f"ack, p{percent}: {side}", "ms", whole[index], [t[index] for t in times])
            )
        ratios = [time_ms[0] / time_ms[1] for time_ms in times]
        name = f"ack, p{percent}: ours to bare + sync"
        figures.append(_figure(name, "x", whole[0] / whole[1], ratios, bound))
    return figures


def _parts(rounds: Sequence[Round]) -> list[Sequence[Round]]:
    return [rounds[first::SPREAD_GROUPS] for first in range(SPREAD_GROUPS)]


def _percentiles_ms(rounds: Sequence[Round], percent: int) -> list[float]:
    """Return the percentile of ours, bare + sync, bare, and sync."""
    sides = (
        np.concatenate([one.ours for one in rounds]),
        np.concatenate([one.floor() for one in rounds]),
        np.concatenate([one.bare for one in rounds]),
        np.concatenate([one.sync for one in rounds]),
    )
    return [1000 * float(np.percentile(side, percent)) for side in sides]


def _figure(name: str, unit: str, value: float, spread: Sequence[float], bound: str = "") -> Figure:
    return Figure(name=name, value=value, unit=unit, low=min(spread), high=max(spread), bound=bound)


if __name__ == "__main__":
    main()
