"""A scrape of a fleet: how long Prometheus waits for the metrics of 1,000 robots.

    python -m tests.benchmarks.bench_metrics --seconds 20 --out FILE

The real endpoint over HTTP on a real store, registry and fleet state; every robot has delivered,
and says all that a heartbeat may say. Turn by turn with it: the same where every robot has also
delivered to a second gateway, the most that there can be to count together; and what the client
library takes to write the same text from samples that are there already. No scrape comes so soon
that it would get the text of the one before.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import zmq
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from learner.config import GatewayConfig, MetricsConfig
from learner.ingestion.committer import Committer
from learner.ingestion.fleet_status import missing_together
from learner.ingestion.gateway_report import GatewayReport
from learner.ingestion.observer import FleetObserver
from learner.monitoring.attempt_counts import AttemptCounts
from learner.monitoring.attempt_facts import AttemptFacts
from learner.monitoring.drift_watch import DriftWatch
from learner.monitoring.fleet_state import FleetState
from learner.monitoring.metrics_server import MetricsServer
from learner.store.episode_store import EpisodeStore
from learner.store.stored_episode import Arrival, RecordKey
from protocol.codec import digest
from protocol.episode import Label, Mode
from protocol.http_server import KEPT_S
from protocol.messages import Heartbeat, RobotHealth, StatusReply
from protocol.refusal_log import RefusalLog
from protocol.registry import Registry
from tests.benchmarks.figures import Findings, add_out_option, figure_of, report

ROBOTS = 1000
LIMIT_MS = 50
STORE_BYTES = 10**9
NEVER_S = 1e9
"""No robot of this fleet falls silent while it is scraped."""


class Fleet:
    """A gateway's parts with robots in them, and the endpoint that looks at them."""

    def __init__(self, folder: Path, robots: int, *, has_neighbour: bool = False) -> None:
        names = [f"robot-{number:04}" for number in range(robots)]
        registry = Registry(folder / "registry")
        for name in names:
            registry.enrol(name, zmq.curve_keypair()[0].decode())
        config = GatewayConfig(
            store=folder / "store",
            max_store_bytes=STORE_BYTES,
            metrics=MetricsConfig(bind="127.0.0.1:0", forget_after_s=NEVER_S),
        )
        self._store = EpisodeStore(config.store, STORE_BYTES)
        fleet, attempts = FleetState(), AttemptCounts()
        refusals = RefusalLog(logging.getLogger(__name__))
        committer = Committer(self._store, fleet, refusals, lambda: None, attempts)
        for name in names:
            fleet.greeted(name, wire_version=4, software_version="1", address="127.0.0.1")
            fleet.beat(name, heartbeat())
        self._store.commit([arrival(name, sequence=1) for name in names])
        reports = [report_of(self._store, fleet)]
        if has_neighbour:
            reports.append(neighbours_report(folder / "neighbour", names))
        attempts.add((name, facts()) for name in names)
        drift = DriftWatch()
        drift.note((name, facts()) for name in names)
        drift.look()
        observer = FleetObserver(
            config,
            registry=registry,
            store=self._store,
            fleet=fleet,
            committer=committer,
            attempts=attempts,
            drift=drift,
            refusals=fleet.refusals,
            missing=lambda: missing_together(reports),
        )
        self._server = MetricsServer(config.metrics.bind, observer.snapshot)
        self._server.start()

    @property
    def address(self) -> str:
        return f"http://{self._server.endpoint}/metrics"

    def close(self) -> None:
        self._server.close()
        self._store.close()


class Ready(Collector):
    """Metrics whose samples are there."""

    def __init__(self, text: str) -> None:
        self._families = list(text_string_to_metric_families(text))

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def heartbeat() -> Heartbeat:
    return Heartbeat(
        release_version=41,
        policy_digest="ab" * 32,
        mode="greedy",
        attempts=12_345,
        successes=10_234,
        outbox_episodes=3,
        outbox_bytes=187_654,
        sent_bytes=987_654_321,
        reconnects=4,
        decision_ms_p50=11.437219,
        decision_ms_p99=23.981274,
        health=RobotHealth(
            outbox_limit_bytes=2_000_000_000,
            outbox_oldest_s=3.218734,
            release_created_at_ns=1_700_000_000_123_456_789,
            servo_hz=2.718281,
            camera_faults=1,
            camera_shift_px=0.314159,
            gripper_zero_drift_m=0.000271828,
            temperature_c=41.5,
        ),
    )


def arrival(name: str, *, sequence: int) -> Arrival:
    record = name.encode()
    key = RecordKey(robot_id=name, spool_id=bytes(16), sequence=sequence)
    return Arrival(key=key, digest=digest(record), record=record, letter="S")


def neighbours_report(folder: Path, names: list[str]) -> GatewayReport:
    """Return what a gateway says that has a later episode of every robot; two are in no store."""
    store = EpisodeStore(folder, STORE_BYTES)
    store.commit([arrival(name, sequence=4) for name in names])
    report = report_of(store, FleetState())
    store.close()
    return report


def report_of(store: EpisodeStore, fleet: FleetState) -> GatewayReport:
    ledgers = store.account().robots
    status = StatusReply(
        uptime_s=1.0,
        release_version=41,
        releases_published=41,
        release_latency_ms=[],
        episodes_stored=len(ledgers),
        robots=[fleet.status_of(name, ledger) for name, ledger in ledgers.items()],
    )
    return GatewayReport(
        endpoint="tcp://127.0.0.1:1",
        store_id=store.store_id(),
        status=status,
        sessions={},
        holdings=store.holdings(),
        stops={},
    )


def facts() -> AttemptFacts:
    return AttemptFacts(
        task="bin-picking",
        label=Label.SUCCESS,
        mode=Mode.GREEDY,
        release_version=41,
        predicted=0.8765432,
        tests_disagree=False,
        decisions_ms=[11.2, 12.3, 13.4],
        record_bytes=40_000,
    )


@contextmanager
def fleets_elsewhere(robots: int) -> Iterator[list[str]]:
    """Serve fleets from a process of its own, as a gateway does.

    Yields:
        Where to scrape a fleet of one gateway, and one that has delivered to two.
    """
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=serve, args=(there, robots))
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("enough")
        process.join()


def serve(parent: Connection, robots: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fleets = [
            Fleet(Path(folder) / "alone", robots),
            Fleet(Path(folder) / "of-two", robots, has_neighbour=True),
        ]
        parent.send([fleet.address for fleet in fleets])
        parent.recv()
        for fleet in fleets:
            fleet.close()


def scrape(address: str) -> bytes:
    with urllib.request.urlopen(address) as answer:
        return answer.read()


def elapsed_ms(call: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    call()
    return (time.perf_counter() - began_s) * 1e3


def measure(addresses: list[str], seconds: float) -> tuple[list[list[float]], bytes]:
    """Return milliseconds of scrapes at each address and of the library's text, and a scrape."""
    text = scrape(addresses[0])
    library = CollectorRegistry()
    library.register(Ready(text.decode()))
    calls: list[Callable[[], object]] = [partial(scrape, address) for address in addresses]
    calls.append(partial(generate_latest, library))
    taken: list[list[float]] = [[] for _ in calls]
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s or not taken[0]:
        time.sleep(KEPT_S)
        for call, times in zip(calls, taken, strict=True):
            times.append(elapsed_ms(call))
    return taken, text


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.bench_metrics",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--robots", type=int, default=ROBOTS, help=f"({ROBOTS})")
    parser.add_argument("--seconds", type=float, default=20.0, help="budget (20)")
    add_out_option(parser)
    arguments = parser.parse_args()
    with fleets_elsewhere(arguments.robots) as addresses:
        (alone, of_two, library), text = measure(addresses, arguments.seconds)
    samples = sum(not line.startswith(b"#") for line in text.splitlines())
    bound = f"<= {LIMIT_MS}" if arguments.robots == ROBOTS else ""
    figures = [
        figure_of(f"a scrape of {arguments.robots} robots", alone, "ms", bound=bound),
        figure_of("the same, each with episodes at a second gateway", of_two, "ms", bound=bound),
        figure_of("the library's text of the same samples, not collected", library, "ms"),
    ]
    settings = {"robots": arguments.robots, "samples": samples, "bytes": len(text)}
    report(Findings(title="Scraping a fleet", settings=settings, figures=figures), arguments.out)


if __name__ == "__main__":
    main()
