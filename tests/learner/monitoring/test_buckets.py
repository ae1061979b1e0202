"""Histograms as Prometheus and the dashboards know them."""

from __future__ import annotations

from fleet.dashboards.learner_view import _BUCKETS
from learner.monitoring.attempt_counts import AttemptCounts
from learner.monitoring.buckets import Buckets
from protocol.episode import Label


def test_values_are_counted_under_bounds_written_as_prometheus_writes_them():
    buckets = Buckets([1, 500, 1000])
    buckets.add([0.5, 1.0, 700.0, 4000.0])
    assert buckets.scaled(1e-3) == (
        [("0.001", 2), ("0.5", 2), ("1.0", 3), ("+Inf", 4)],
        4.7015,
    )


def test_the_learner_dashboard_asks_for_the_bounds_that_are_exported():
    totals = AttemptCounts().totals()
    bounds, _ = totals.predicted[Label.SUCCESS].scaled(1.0)
    assert [bound for bound, _ in bounds] == [*_BUCKETS, "+Inf"]
