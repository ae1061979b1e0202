"""How many episodes a second a learner takes: ours, bare sockets, and peers, on the same episodes.

    python -m tests.benchmarks.bench_ingestion --seconds 900 --out FILE

Every system gets the same episodes of ten 64x64 pictures, as JPEG records and as pixels, from 1, 8
and 32 agents, each a process with a window of unacked episodes. All systems take turns within a
round, each in fresh processes; what is compared is compared within a round. The learner's CPU is
that of the processes which ack. Peers are installed into environments of their own; one that cannot
be installed or fails is listed with what it said.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protocol.codec import decode_episode, encode_episode
from tests.benchmarks.episodes import EPISODES, PICTURES, SIDE_PX, benchmark_episode, write_all
from tests.benchmarks.figures import Figure, Findings, add_out_option, figure_of, report
from tests.benchmarks.peers.contract import Count, Kind, Load, episodes_file, read_episodes
from tests.benchmarks.peers.environments import EnvironmentFailedError
from tests.benchmarks.peers.measurement import SystemFailedError, measure
from tests.benchmarks.peers.systems import (
    BARE,
    BARE_COMMIT,
    BARE_CURVE,
    OURS,
    OURS_TWICE,
    RAY_ACTOR,
    REVERB,
    REVERB_INSERT,
    SYSTEMS,
    System,
)

WINDOW = 64
WARM_UP_S = 0.5
ROUNDS = 3
MEASURED_S = 2.0
_ENVIRONMENTS = Path("runs/bench/environments")
_BOUNDS = {
    BARE_CURVE.name: ">= 0.6",
    REVERB.name: ">= 2",
    REVERB_INSERT.name: ">= 2",
    RAY_ACTOR.name: ">= 5",
}
_RATIO = Callable[[Count, Count], float]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One load that every system is put under in turn."""

    kind: Kind
    agents: int

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.agents} agent{'s' * (self.agents > 1)}"

    def takes(self, system: System) -> bool:
        """Say whether a system is measured here; second ways of use only with 8 agents."""
        return self.agents == _JUDGED.agents or system not in (OURS_TWICE, REVERB_INSERT)


_JUDGED = Row(kind="jpeg", agents=8)
"""The load that the bounds are about."""


class Rounds:
    """What every system did in every round."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Row, str], dict[int, Count]] = defaultdict(dict)
        self.failures: dict[str, str] = {}

    def note(self, row: Row, system: System, turn: int, count: Count) -> None:
        self._counts[row, system.name][turn] = count

    def counts(self, row: Row, system: System) -> list[Count]:
        return list(self._counts[row, system.name].values())

    def fewest(self, rows: Sequence[Row]) -> int:
        """Return in how many rounds the row was measured that the time sufficed least for."""
        turns = {row: 0 for row in rows}
        for (row, _), counts in self._counts.items():
            turns[row] = max(turns[row], len(counts))
        return min(turns.values())

    def ratios(self, row: Row, system: System, other: System, ratio: _RATIO) -> list[float]:
        """Return ``ratio(of system, of other)`` for every round that has both."""
        ours, theirs = self._counts[row, system.name], self._counts[row, other.name]
        return [ratio(ours[turn], theirs[turn]) for turn in ours.keys() & theirs.keys()]


def main() -> None:
    arguments = _parser().parse_args()
    rows = _rows(arguments.kinds, arguments.agents)
    systems = [one for one in SYSTEMS if not arguments.systems or one.name in arguments.systems]
    with tempfile.TemporaryDirectory(prefix="bench-episodes-") as name:
        episodes = Path(name)
        write_all(episodes, max(arguments.agents))
        rounds = _measure(rows, systems, episodes, arguments)
        record_bytes = [len(one) for one in read_episodes(episodes_file(episodes, "jpeg", 0))]
    figures = [*_rates(rounds, rows, systems), *_comparisons(rounds), _decoding()]
    findings = Findings(
        title="Ingestion: episodes acked per second",
        settings={
            "pictures": PICTURES,
            "side_px": SIDE_PX,
            "jpeg_record_bytes": int(np.median(record_bytes)),
            "different_episodes": EPISODES,
            "window": WINDOW,
            "rounds": f"{rounds.fewest(rows)} to {arguments.rounds}",
            "measured_s": arguments.measured_s,
            "warm_up_s": WARM_UP_S,
        },
        figures=figures,
        failures=[f"{where}: {why}" for where, why in rounds.failures.items()],
    )
    report(findings, arguments.out)
    indispensable = {one.name for one in systems if one.is_ours}
    if any(where.split(" | ")[0] in indispensable for where in rounds.failures):
        sys.exit("bench_ingestion: a side that nothing can be compared without failed")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=1200.0, help="begin nothing new after so long (1200)"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds ({ROUNDS})")
    parser.add_argument(
        "--measured-s", type=float, default=MEASURED_S, help="of every system in every row (2)"
    )
    parser.add_argument("--kinds", nargs="+", choices=("jpeg", "raw"), default=["jpeg", "raw"])
    parser.add_argument("--agents", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument(
        "--systems", nargs="+", choices=[one.name for one in SYSTEMS], help="only these (all)"
    )
    parser.add_argument(
        "--environments",
        type=Path,
        default=_ENVIRONMENTS,
        help=f"where peers are installed and kept ({_ENVIRONMENTS})",
    )
    add_out_option(parser)
    return parser


def _rows(kinds: Sequence[Kind], agents: Sequence[int]) -> list[Row]:
    return [Row(kind=kind, agents=count) for kind in kinds for count in agents]


def _measure(
    rows: Sequence[Row], systems: Sequence[System], episodes: Path, arguments: argparse.Namespace
) -> Rounds:
    rounds, end_s = Rounds(), time.monotonic() + arguments.seconds
    for turn, row, system in turns_of(arguments.rounds, rows, systems):
        if time.monotonic() > end_s:
            where = f"{row.name} of round {turn + 1}"
            rounds.failures["time"] = f"{arguments.seconds:.0f} s were over before {where}"
            break
        where = f"{system.name} | {row.name}"
        load = Load(
            kind=row.kind,
            agents=row.agents,
            window=WINDOW,
            warm_up_s=WARM_UP_S,
            seconds=arguments.measured_s,
            episodes=str(episodes),
        )
        try:
            count = measure(system, load, arguments.environments)
        except (EnvironmentFailedError, SystemFailedError) as error:
            rounds.failures[where] = str(error)
            print(f"round {turn + 1}  {where:52} FAILED: {error}", flush=True)
        else:
            rounds.note(row, system, turn, count)
            print(f"round {turn + 1}  {where:52} {_rate(count):9.0f} episodes/s", flush=True)
    return rounds


def turns_of(
    rounds: int, rows: Sequence[Row], systems: Sequence[System]
) -> Iterator[tuple[int, Row, System]]:
    """Yield what is measured, in order; should the time not suffice, the last is left out.

    All rounds of the row with the bounds come first.
    """
    judged = [row for row in rows if row == _JUDGED]
    others = [row for row in rows if row != _JUDGED]
    for some in (judged, others):
        for turn in range(rounds):
            for row in some:
                for system in systems:
                    if row.takes(system):
                        yield turn, row, system


def _rate(count: Count) -> float:
    return count.episodes / count.seconds


def _cpu_per_1000(count: Count) -> float:
    return 1000 * count.server_cpu_s / count.episodes


def _rates(rounds: Rounds, rows: Sequence[Row], systems: Sequence[System]) -> Iterator[Figure]:
    for row in rows:
        for system in systems:
            rates = [_rate(count) for count in rounds.counts(row, system)]
            if rates:
                labels = {"system": system.name, "agents": row.agents, "kind": row.kind}
                yield figure_of(
                    f"{row.name}: {system.name}",
                    rates,
                    "episodes/s",
                    note=f"{system.guarantee} (rounds: {len(rates)})",
                    labels=labels,
                )


def _comparisons(rounds: Rounds) -> Iterator[Figure]:
    """Yield what ours is judged by."""
    for own, other in itertools.product(
        (OURS, OURS_TWICE), (BARE, BARE_CURVE, BARE_COMMIT, REVERB, REVERB_INSERT, RAY_ACTOR)
    ):
        found = rounds.ratios(_JUDGED, own, other, lambda a, b: _rate(a) / _rate(b))
        if found:
            bound = _BOUNDS.get(other.name, "")
            yield figure_of(f"{_JUDGED.name}: {own.name} to {other.name}", found, "x", bound=bound)
    for system in (BARE_CURVE, BARE_COMMIT, OURS, OURS_TWICE):
        costs = [_cpu_per_1000(count) for count in rounds.counts(_JUDGED, system)]
        if costs:
            yield figure_of(f"{_JUDGED.name}: CPU per 1,000 episodes, {system.name}", costs, "s")
    found = rounds.ratios(
        _JUDGED, OURS, BARE_COMMIT, lambda a, b: _cpu_per_1000(a) / _cpu_per_1000(b)
    )
    if found:
        name = f"{_JUDGED.name}: CPU of ours to {BARE_COMMIT.name}"
        yield figure_of(name, found, "x", bound="<= 1.5")


def _decoding() -> Figure:
    """Return what replay spends on every episode, after the ack."""
    records = [encode_episode(benchmark_episode("agent-0", seed)) for seed in range(EPISODES)]
    costs = []
    for _ in range(5):
        began_s = time.process_time()
        for record in records:
            decode_episode(record)
        costs.append(1000 * (time.process_time() - began_s) / len(records))
    return figure_of(
        "CPU of decoding 1,000 episodes, in replay", costs, "s", note="not before the ack"
    )


if __name__ == "__main__":
    main()
