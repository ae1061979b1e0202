"""A robot that drops, from its episodes on the wire to what an operator is told."""

from __future__ import annotations

import urllib.request

from fleet.health import concerns_of
from fleet.overview import Overview
from learner.config import MetricsConfig
from learner.ingestion.gateway import Gateway
from protocol.codec import encode_episode
from protocol.episode import Mode
from protocol.messages import Drift
from tests.delivery_site import DeliverySite
from tests.episodes import make_episode
from tests.free_ports import free_port
from tests.waiting import PATIENCE_S, wait_until


def deliver(site: DeliverySite, successes: int, failures: int) -> None:
    outbox = site.outbox("arm")
    uplink = site.uplink("arm", outbox)
    uplink.start()
    for seed in range(successes + failures):
        episode = make_episode(
            "arm", seed, steps=1, success=seed < successes, mode=Mode.GREEDY, release_version=1
        )
        outbox.put(encode_episode(episode))
    assert uplink.close(PATIENCE_S)
    outbox.close()


def drift_of(gateway: Gateway) -> Drift:
    (robot,) = gateway.status().robots
    return robot.success_drift or Drift(
        detected=False, evidence=0.0, attempts=0, before=0.0, now=0.0, since=0
    )


def test_an_operator_is_told_of_a_robot_that_dropped_also_after_a_restart(site: DeliverySite):
    site.enrol("arm")
    metrics = MetricsConfig(bind=f"127.0.0.1:{free_port()}")
    with site.running_gateway(metrics=metrics) as gateway:
        deliver(site, successes=300, failures=60)
        wait_until(lambda: drift_of(gateway).attempts == 360, "all attempts looked at")
        before = drift_of(gateway)
    assert before.detected
    with site.running_gateway(metrics=metrics) as gateway:
        assert drift_of(gateway) == before
        seen = Overview(status=gateway.status(), listing=None, members=frozenset({"arm"}))
        assert any("arm: success has left its past" in str(one) for one in concerns_of(seen))
        with urllib.request.urlopen(f"http://{gateway.metrics_endpoint}/metrics") as page:
            text = page.read().decode()
    assert 'graspfleet_robot_drift_success_detected{robot="arm"} 1' in text
    assert 'graspfleet_robot_drift_calibration_evidence{robot="arm"} ' in text
