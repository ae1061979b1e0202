"""One learner machine and a thousand agents, against the same machine with eight.

    python -m tests.benchmarks.bench_fleet [--seconds 360] [--agents 1000] [--out FILE]

The learner's gateway and its release server are processes of their own, with CURVE, the store's
commits and the ledger; the agents are the real outbox, uplink and release receiver with episodes of
ten JPEG pictures, many to a process. Fleets of both sizes take turns. Each goes through:

    join        all agents begin to connect at one moment, with episodes waiting
    steady      40 episodes a second in all, whatever the size
    heartbeats  nothing but heartbeats: one a second from each agent
    saturation  episodes that were held back go all at once
    status      ``fleet status``, as an operator runs it
    restart     the gateway gets SIGKILL and is started again, with episodes waiting

and at the end a reader that shares no code with the learner counts what is stored.

CPU is the gateway's, all of its threads. A fleet of 1,000 sends 1,000 heartbeats in the time of 40
episodes: they are a cost of having agents, not of episodes, and of either fleet they cost the same
per agent. So the bound is on what an episode costs at saturation, less the heartbeats of that
time; the steady state is reported as it is, heartbeats included, beside the price of one heartbeat.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil

from fleet.commands.output import EXIT_NOT_WELL
from tests.benchmarks.figures import Figure, Findings, add_out_option, figure_of, report
from tests.chaos.fleet_under_fire import FirePlan, FleetUnderFire

FEW = 8
EPISODES_PER_S = 40.0
BURST_EPISODES = 2_000
STEADY_S = 12.0
HEARTBEATS_S = 8.0
LARGEST_GROUP = 250
STORM_BOUND_S = 30.0
WITHIN_S = 120.0


class Visit(msgspec.Struct, kw_only=True):
    """What was measured of one fleet once."""

    agents: int
    join_s: float = 0.0
    """From the word to connect to the first episode acked of the last agent."""
    steady_cpu_us: float = 0.0
    """Of the gateway per episode, heartbeats included."""
    heartbeat_cpu_us: float = 0.0
    saturated_cpu_us: float = 0.0
    """Per episode, less the heartbeats of that time."""
    saturated_per_s: float = 0.0
    memory_bytes: int = 0
    """Of the gateway, resident, with every agent connected."""
    agent_bytes: float = 0.0
    """Of a process of emulated agents, resident, per agent."""
    status_s: float = 0.0
    restart_s: float = 0.0
    """From the new gateway's start to an episode acked of the last agent."""
    wrong: int = 0
    """Episodes missing, doubled, altered, unknown, or left in an outbox."""
    stored: int = 0


class FleetOnce:
    """One fleet, from its start to its end. To be used as a context."""

    def __init__(self, folder: Path, agents: int) -> None:
        groups = -(-agents // LARGEST_GROUP)
        self._go = folder / "go"
        self._agents = agents
        burst = str(max(1, BURST_EPISODES // agents))
        self._fleet = FleetUnderFire(
            folder,
            FirePlan(
                agents=0,
                groups=groups,
                robots_per_group=agents // groups,
                interval_s=agents / EPISODES_PER_S,
                gateway_alone=True,
                releases_alone=True,
                group_options=(
                    *("--releases", "--pictures", "10"),
                    *("--burst", burst, "--go", str(self._go)),
                ),
            ),
        )

    def run(self) -> Visit:
        """Measure everything once."""
        visit = Visit(agents=self._agents)
        with self._fleet:
            self._await_bursts(1)
            visit.join_s = self._join()
            visit.steady_cpu_us = self._steady()
            self._hold_back()
            beat_s = self._heartbeats()
            visit.heartbeat_cpu_us = beat_s / (self._agents * HEARTBEATS_S) * 1e6
            visit.saturated_cpu_us, visit.saturated_per_s = self._saturate(beat_s / HEARTBEATS_S)
            visit.memory_bytes = self._gateway.memory_info().rss
            visit.agent_bytes = self._agents_memory() / self._agents
            visit.status_s = self._ask_status()
            self._hold_back()
            visit.restart_s = self._restart()
            self._fleet.end()
        found = self._fleet.comparison()
        visit.stored = found.stored
        visit.wrong = sum(
            len(wrong) for wrong in (found.missing, found.doubled, found.altered, found.unknown)
        )
        visit.wrong += found.left
        return visit

    def _join(self) -> float:
        began_s = time.monotonic()
        self._go.touch()
        self._await(lambda: self._reached == self._agents, "every agent has an episode acked")
        return time.monotonic() - began_s

    def _steady(self) -> float:
        self._await(self._is_delivered, "what waited is delivered")
        acked, cpu_s = self._fleet.acked, self._cpu_s()
        for _ in self._fleet.wait(STEADY_S):
            pass
        return (self._cpu_s() - cpu_s) / (self._fleet.acked - acked) * 1e6

    def _heartbeats(self) -> float:
        """Return the gateway's CPU time over HEARTBEATS_S without an episode."""
        cpu_s = self._cpu_s()
        for _ in self._fleet.wait(HEARTBEATS_S):
            pass
        return self._cpu_s() - cpu_s

    def _saturate(self, heartbeats_share: float) -> tuple[float, float]:
        """Return CPU time per episode in us, and episodes per second."""
        acked, cpu_s, began_s = self._fleet.acked, self._cpu_s(), time.monotonic()
        for group in self._fleet.groups:
            group.tell(signal.SIGUSR2)
        self._await(self._is_delivered, "what was held back is delivered")
        took_s = time.monotonic() - began_s
        spent_s = self._cpu_s() - cpu_s - heartbeats_share * took_s
        episodes = self._fleet.acked - acked
        return spent_s / episodes * 1e6, episodes / took_s

    def _ask_status(self) -> float:
        began_s = time.monotonic()
        command = [sys.executable, "-m", "fleet", "status", "--run", str(self._fleet.folder.root)]
        # Robots that pause between two measurements are no failure of the command.
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, EXIT_NOT_WELL):
            raise AssertionError(f"fleet status ended with {done.returncode}: {done.stderr}")
        answer = done.stdout
        took_s = time.monotonic() - began_s
        shown = sum(line.startswith("emulated-") for line in answer.splitlines())
        if shown != self._agents:
            raise AssertionError(f"fleet status shows {shown} of {self._agents} robots:\n{answer}")
        return took_s

    def _restart(self) -> float:
        learner = self._fleet.learner
        starts = learner.starts
        learner.kill()
        for group in self._fleet.groups:
            group.tell(signal.SIGUSR2)
        self._await(lambda: learner.starts > starts, "the gateway is started again")
        began_s = time.monotonic()
        self._await(lambda: self._reached == self._agents, "every agent delivers again")
        return time.monotonic() - began_s

    def _hold_back(self) -> None:
        bursts = [group.bursts for group in self._fleet.groups]
        for group in self._fleet.groups:
            group.tell(signal.SIGUSR1)
        self._await_bursts(max(bursts) + 1)

    def _await_bursts(self, count: int) -> None:
        self._await(
            lambda: all(group.bursts >= count for group in self._fleet.groups), "bursts are spooled"
        )

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        for _ in self._fleet.wait(WITHIN_S):
            if condition():
                return
        troubles = [group.trouble for group in self._fleet.groups if group.trouble]
        raise TimeoutError(f"not within {WITHIN_S:.0f} s: {what}; {self._reached} {troubles}")

    def _is_delivered(self) -> bool:
        spooled = sum(group.spooled for group in self._fleet.groups)
        # Episodes go on being spooled; what is under way is less than a second's.
        return spooled - self._fleet.acked <= EPISODES_PER_S

    def _agents_memory(self) -> int:
        return sum(
            psutil.Process(group.service.process_id).memory_info().rss
            for group in self._fleet.groups
        )

    @property
    def _reached(self) -> int:
        return sum(group.reached for group in self._fleet.groups)

    @property
    def _gateway(self) -> psutil.Process:
        gateway = self._fleet.gateway()
        assert gateway is not None
        return gateway

    def _cpu_s(self) -> float:
        times = self._gateway.cpu_times()
        return times.user + times.system


def figures(few: list[Visit], many: list[Visit]) -> list[Figure]:
    """Return what is reported of visits that took turns."""
    agents = many[0].agents
    pairs = list(zip(few, many, strict=True))
    storm = f"<= {STORM_BOUND_S:g}"

    def both(what: str, name: str, unit: str) -> list[Figure]:
        return [
            figure_of(
                f"{what}, {visits[0].agents} agents", [getattr(v, name) for v in visits], unit
            )
            for visits in (few, many)
        ]

    def ratio(what: str, name: str, **rest: str) -> Figure:
        return figure_of(what, [getattr(b, name) / getattr(a, name) for a, b in pairs], "x", **rest)

    return [
        ratio(
            "gateway CPU per episode at saturation, many / few",
            "saturated_cpu_us",
            bound="<= 1.3",
            note="less heartbeats",
        ),
        *both("gateway CPU per episode at saturation", "saturated_cpu_us", "us"),
        *both("gateway CPU per heartbeat", "heartbeat_cpu_us", "us"),
        *both("gateway CPU per episode at 40/s, heartbeats included", "steady_cpu_us", "us"),
        ratio("gateway CPU per episode at 40/s with heartbeats, many / few", "steady_cpu_us"),
        *both("episodes at saturation", "saturated_per_s", "1/s"),
        figure_of(
            "gateway memory per agent",
            [(b.memory_bytes - a.memory_bytes) / (b.agents - a.agents) / 1024 for a, b in pairs],
            "KiB",
        ),
        figure_of("memory per emulated agent", [one.agent_bytes / 1024 for one in many], "KiB"),
        figure_of(f"{agents} join: all served", [v.join_s for v in many], "s", bound=storm),
        figure_of(
            f"{agents} after SIGKILL: all served", [v.restart_s for v in many], "s", bound=storm
        ),
        figure_of(f"fleet status of {agents}", [one.status_s for one in many], "s"),
        Figure(
            name="episodes missing, doubled or altered",
            value=sum(one.wrong for one in few + many),
            unit="",
            bound="<= 0",
            note=f"of {sum(one.stored for one in few + many)}",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.bench_fleet", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=360.0, help="budget (360)")
    parser.add_argument("--agents", type=int, default=1000, help="of the large fleet (1000)")
    add_out_option(parser)
    arguments = parser.parse_args()
    began_s = time.monotonic()
    few: list[Visit] = []
    many: list[Visit] = []
    # Another round begins only where there is time for one as long as the longest so far.
    longest_s = 0.0
    while not many or time.monotonic() - began_s + longest_s < arguments.seconds:
        round_s = time.monotonic()
        for agents, visits in ((FEW, few), (arguments.agents, many)):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                visits.append(FleetOnce(Path(folder), agents).run())
        longest_s = max(longest_s, time.monotonic() - round_s)
    found = Findings(
        title=f"A fleet of {arguments.agents} against one of {FEW}",
        settings={"episodes_per_s": EPISODES_PER_S, "rounds": len(many)},
        figures=figures(few, many),
    )
    report(found, arguments.out)


if __name__ == "__main__":
    main()
