"""An endpoint with every metric that docs/metrics.md promises of a gateway, for three robots."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from tests.deploy import documented_metrics as documented

ROBOTS = ("arm-1", "arm-2", "arm-3")
_VALUES = {
    "robot": ROBOTS,
    "outcome": ("success", "failure"),
    "task": ("forks", "spoons"),
    "reason": ("connection", "digest"),
}
_BOUNDS = [*(f"{tenth / 10}" for tenth in range(1, 11)), "+Inf"]


class EveryMetric(Collector):
    """Counts up by itself, so that every rate has a value."""

    def __init__(self) -> None:
        self._scrapes = itertools.count(1)

    def collect(self) -> Iterator[Metric]:
        """Yield every documented metric of a gateway."""
        scrape = next(self._scrapes)
        for metric in documented.documented_metrics():
            if not metric.name.startswith("graspfleet_agent_"):
                yield _family(metric, scrape)

    def describe(self) -> list[Metric]:
        """Say nothing of what comes: names are the page's."""
        return []


@contextmanager
def serving() -> Iterator[int]:
    """Serve the metrics; yield the port."""
    registry = CollectorRegistry()
    registry.register(EveryMetric())
    ProcessCollector(registry=registry)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _family(metric: documented.Metric, scrape: int) -> Metric:
    labels = sorted(metric.labels - {"le"})
    found: list[tuple[str, ...]] = list(itertools.product(*(_VALUES[name] for name in labels)))
    if metric.kind == "counter":
        counter = CounterMetricFamily(metric.name, "as documented", labels=labels)
        for values in found:
            counter.add_metric(values, 10.0 * scrape)
        return counter
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, "as documented", labels=labels)
        for values in found:
            buckets = [(bound, scrape * place) for place, bound in enumerate(_BOUNDS, start=1)]
            histogram.add_metric(values, buckets, sum_value=5.0 * scrape)
        return histogram
    if metric.kind == "summary":
        return _summary(metric, scrape, labels, found)
    gauge = GaugeMetricFamily(metric.name, "as documented", labels=labels)
    for values in found:
        gauge.add_metric(values, _gauge_value(metric.name, scrape))
    return gauge


def _summary(
    metric: documented.Metric, scrape: int, labels: list[str], found: list[tuple[str, ...]]
) -> Metric:
    if metric.name.endswith(("_sum", "_count")):  # one row of the page for each of the two
        part = Metric(metric.name, "as documented", "unknown")
        for values in found:
            part.add_sample(metric.name, dict(zip(labels, values, strict=True)), 5.0 * scrape)
        return part
    summary = SummaryMetricFamily(metric.name, "as documented", labels=labels)
    for values in found:
        summary.add_metric(values, count_value=scrape, sum_value=0.2 * scrape)
    return summary


def _gauge_value(name: str, scrape: int) -> float:
    if name.endswith("_timestamp_seconds"):
        return time.time() - 30
    if name.endswith("release_version"):
        return scrape // 3
    return 0.5 if name.endswith("_ratio") else 1.0
