"""What the gateway exports: over HTTP, of real deliveries, beside the store's own truth."""

from __future__ import annotations

import dataclasses
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from learner.config import MetricsConfig
from learner.ingestion.gateway import Gateway
from learner.monitoring.attempt_counts import (
    MOST_TASKS,
    OTHER_TASKS,
    TASKS_OF_ROBOT,
    AttemptCounts,
)
from learner.monitoring.attempt_facts import AttemptFacts, facts_of
from learner.monitoring.training_report import TrainingReport
from protocol.codec import encode_episode, encode_message, read_episode_meta
from protocol.episode import Episode, Label, Mode
from protocol.messages import Heartbeat, RobotHealth, Tombstone
from tests.delivery_site import ROOT, DeliverySite, make_heartbeat, make_site
from tests.episodes import make_episode
from tests.learner.monitoring.exported import Exported
from tests.peer import SPOOL, Peer
from tests.waiting import wait_until

HEALTH = RobotHealth(
    outbox_limit_bytes=2_000_000_000,
    outbox_oldest_s=1.5,
    release_created_at_ns=1_700_000_000_000_000_000,
    servo_hz=3.25,
    camera_ok=False,
    camera_faults=2,
    camera_shift_px=0.5,
    gripper_zero_drift_m=-0.00025,
    temperature_c=41.5,
    metrics_port=9751,
)
REPORT = TrainingReport(
    started_at_ns=1_699_999_000_000_000_000,
    is_waiting=True,
    steps=1200,
    examples=307_200,
    timed_steps=100,
    step_s=2.5,
    step_share=0.97,
    loss=0.41,
    held_out={
        "held_out_loss": 0.4,
        "held_out_auc": 0.9,
        "held_out_calibration_error": 0.03,
    },
    visits=21.5,
    visits_limit=22.0,
    replay_attempts=4000,
    replay_examples=20_000,
    replay_bytes=250_000_000,
    replay_limit_bytes=2_000_000_000,
    replay_success_share=0.6,
    release_version=41,
    release_created_at_ns=1_700_000_000_500_000_000,
    releases_withheld=2,
    releases_unpublished=1,
    releases_made=43,
    release_making_s=21.0,
    checkpoint_at_ns=1_700_000_001_000_000_000,
)


@pytest.fixture
def site(tmp_path: Path) -> DeliverySite:
    return make_site(tmp_path)


@pytest.fixture
def start(site: DeliverySite) -> Iterator[Callable[..., Gateway]]:
    """Return what starts gateways on the site's store, one after the other."""
    gateways: list[Gateway] = []

    def start(forget_after_s: float = 100.0) -> Gateway:
        for gateway in gateways:
            gateway.stop()
        metrics = MetricsConfig(bind="127.0.0.1:0", forget_after_s=forget_after_s)
        gateways.append(site.gateway(metrics=metrics))
        gateways[-1].start()
        return gateways[-1]

    yield start
    gateways[-1].stop()


def beat_with_health(health: RobotHealth | None = HEALTH) -> Heartbeat:
    return msgspec.structs.replace(make_heartbeat(release_version=40), health=health)


def attempt(number: int, label: Label, mode: Mode = Mode.GREEDY) -> Episode:
    """Return an attempt that a network decided, and predicted to succeed nine times in ten."""
    episode = make_episode("arm", seed=number, success=label == Label.SUCCESS, mode=mode)
    *moves, closing = episode.steps
    closing = dataclasses.replace(closing, predicted_stay=0.9, decision_ms=12.0)
    outcome = dataclasses.replace(episode.outcome, label=label)
    return dataclasses.replace(episode, steps=(*moves, closing), outcome=outcome)


def deliver(peer: Peer, labels: str) -> None:
    """Deliver attempts of the first sequences: s success, f failure, a aborted."""
    ended = {"s": Label.SUCCESS, "f": Label.FAILURE, "a": Label.ABORTED}
    for sequence, letter in enumerate(labels, start=1):
        peer.submit(sequence, encode_episode(attempt(sequence, ended[letter])))


def attempts_of(gateway: Gateway, robot: str = "arm") -> list[float | None]:
    found = Exported(gateway.metrics_endpoint)
    return [
        found.value("graspfleet_robot_attempts_total", robot=robot, outcome=label.value)
        for label in Label
    ]


def documented() -> dict[str, tuple[str, set[str]]]:
    """Return type and labels of every metric of a learner that the document names."""
    text = (ROOT / "docs/metrics.md").read_text().partition("## An agent's own endpoint")[0]
    found: dict[str, tuple[str, set[str]]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name = re.fullmatch(r"`(graspfleet_\w+)`", cells[0])
        if name is None:
            continue
        kind = cells[1].split()[0]
        labels = {word for word in ("outcome", "task", "reason") if f"`{word}`" in cells[2]}
        if name[1].startswith("graspfleet_robot_"):
            labels.add("robot")
        plain = re.sub("_(sum|count)$", "", name[1]) if kind == "summary" else name[1]
        found[plain] = kind, labels
    return found


def test_the_endpoint_exports_what_the_document_says_and_nothing_else(
    site: DeliverySite, start: Callable[..., Gateway]
):
    gateway = start()
    gateway.note_training(REPORT)
    peer = Peer(site, site.enrol("arm"))
    peer.hello("arm", wire_version=4)
    deliver(peer, "sfa")
    peer.submit(9, b"no record")
    peer.send(encode_message(beat_with_health()))

    def is_complete() -> bool:
        found = Exported(gateway.metrics_endpoint)
        return {
            "graspfleet_robot_drift_success_evidence",
            "graspfleet_robot_drift_calibration_evidence",
            "graspfleet_robot_warnings",
        } <= found.families.keys()

    wait_until(is_complete, "the watch for drift has looked at the attempts")
    found = Exported(gateway.metrics_endpoint)
    exported = {
        name: (
            family.type,
            {label for sample in family.samples for label in sample.labels if label != "le"},
        )
        for name, family in found.families.items()
        if not name.startswith("process_")
    }
    assert exported == documented()
    assert found.complaints() == ""
    peer.close()


def test_attempts_agree_with_the_store_also_after_a_restart(
    site: DeliverySite, start: Callable[..., Gateway]
):
    gateway = start()
    peer = Peer(site, site.enrol("arm"))
    peer.hello("arm")
    deliver(peer, "ssfas")
    assert attempts_of(gateway) == [3, 1, 1]
    gateway = start()
    assert attempts_of(gateway) == [3, 1, 1]
    found = Exported(gateway.metrics_endpoint)
    ledger = gateway.status().robots[0]
    assert found.value("graspfleet_store_attempts_total", outcome="success") == ledger.successes
    assert found.value("graspfleet_robot_stored_episodes_total", robot="arm") == ledger.stored
    assert found.value("graspfleet_store_episodes_total") == 5
    assert found.value("graspfleet_robot_last_seen_timestamp_seconds", robot="arm") is None
    peer.close()


def test_what_a_robot_may_be_refused_for_counts_from_0(
    site: DeliverySite, start: Callable[..., Gateway]
):
    gateway = start()
    peer = Peer(site, site.enrol("arm"))
    peer.hello("arm")

    def refused(reason: str) -> float | None:
        found = Exported(gateway.metrics_endpoint)
        return found.value("graspfleet_robot_refused_messages_total", robot="arm", reason=reason)

    assert refused("record") == refused("malformed") == refused("two-agents") == 0
    assert refused("not-enrolled") is None
    peer.submit(1, b"no record")
    # A text serves for a second.
    wait_until(lambda: refused("record") == 1, "the refusal is counted")
    assert refused("malformed") == 0
    peer.close()


def test_what_comes_again_is_counted_once(site: DeliverySite, start: Callable[..., Gateway]):
    gateway = start()
    peer = Peer(site, site.enrol("arm"))
    peer.hello("arm")
    deliver(peer, "sf")
    deliver(peer, "sf")
    found = Exported(gateway.metrics_endpoint)
    assert attempts_of(gateway) == [1, 1, 0]
    assert found.value("graspfleet_robot_duplicate_episodes_total", robot="arm") == 2
    assert found.value("graspfleet_received_episodes_total") == 4
    assert found.value("graspfleet_acked_episodes_total") == 4
    ratio = "graspfleet_robot_predicted_success_ratio"
    for outcome in ("success", "failure"):
        assert found.value(f"{ratio}_count", robot="arm", outcome=outcome) == 1
        assert found.value(f"{ratio}_sum", robot="arm", outcome=outcome) == pytest.approx(0.9)
    assert found.value("graspfleet_decision_seconds_count") == 8
    peer.close()


def test_a_gap_is_missing_until_it_is_given_up(site: DeliverySite, start: Callable[..., Gateway]):
    gateway = start()
    peer = Peer(site, site.enrol("arm"))
    peer.hello("arm")
    peer.submit(3, encode_episode(make_episode("arm", seed=3)))
    found = Exported(gateway.metrics_endpoint)
    assert found.value("graspfleet_robot_missing_episodes", robot="arm") == 2
    assert found.value("graspfleet_store_missing_episodes") == 2
    peer.close()


def test_what_was_given_up_and_comes_after_all_is_not_given_up_any_more(
    site: DeliverySite, start: Callable[..., Gateway]
):
    gateway = start()
    peer = Peer(site, site.enrol("arm"))
    peer.hello("arm")

    def given_up() -> float | None:
        found = Exported(gateway.metrics_endpoint)
        return found.value("graspfleet_robot_tombstoned_episodes", robot="arm")

    gap = Tombstone(spool_id=SPOOL, sequence=1, last_sequence=2, reason="lost")
    peer.ask(encode_message(gap))
    wait_until(lambda: given_up() == 2, "two are given up")
    peer.submit(2, encode_episode(make_episode("arm", seed=2)))
    # A text serves for a second.
    wait_until(lambda: given_up() == 1, "one has come after all")
    family = Exported(gateway.metrics_endpoint).families["graspfleet_robot_tombstoned_episodes"]
    assert family.type == "gauge"
    peer.close()


def test_heartbeats_are_relayed_and_what_a_robot_does_not_know_is_absent(
    site: DeliverySite, start: Callable[..., Gateway]
):
    gateway = start()
    peer = Peer(site, site.enrol("arm"))
    old = Peer(site, site.enrol("old"))
    peer.hello("arm", wire_version=4)
    old.hello("old", wire_version=3)
    peer.send(encode_message(beat_with_health()))
    old.send(encode_message(make_heartbeat()))
    version = "graspfleet_robot_release_version"
    wait_until(
        lambda: (
            Exported(gateway.metrics_endpoint).value(version, robot="arm") == 40
            and Exported(gateway.metrics_endpoint).value(version, robot="old") == 0
        ),
        "both are heard",
    )
    found = Exported(gateway.metrics_endpoint)
    assert found.value("graspfleet_robot_camera_up", robot="arm") == 0
    assert found.value("graspfleet_robot_servos_up", robot="arm") == 1
    assert found.value("graspfleet_robot_temperature_celsius", robot="arm") == 41.5
    assert found.value("graspfleet_robot_gripper_zero_drift_meters", robot="arm") == -0.00025
    assert found.value("graspfleet_robot_decision_p99_seconds", robot="arm") == 0.002
    assert found.value("graspfleet_robot_camera_up", robot="old") is None
    for one in (peer, old):
        one.close()


def test_a_robot_that_leaves_vanishes_and_its_episodes_stay_in_the_totals(
    site: DeliverySite, start: Callable[..., Gateway]
):
    gateway = start()
    for name in ("arm", "leg"):
        peer = Peer(site, site.enrol(name))
        peer.hello(name)
        peer.submit(1, encode_episode(make_episode(name)))
        peer.close()
    assert Exported(gateway.metrics_endpoint).robots() == {"arm", "leg"}
    site.registry.revoke("leg")
    wait_until(
        lambda: Exported(gateway.metrics_endpoint).robots() == {"arm"}, "the revoked one is gone"
    )
    gateway = start(forget_after_s=0.3)
    wait_until(lambda: not Exported(gateway.metrics_endpoint).robots(), "the silent one is gone")
    found = Exported(gateway.metrics_endpoint)
    assert found.value("graspfleet_store_attempts_total", outcome="success") == 2
    assert found.value("graspfleet_robots_enrolled") == 1


def test_only_live_agents_that_offer_an_endpoint_are_targets(
    site: DeliverySite, start: Callable[..., Gateway]
):
    gateway = start()
    arm, leg = Peer(site, site.enrol("arm")), Peer(site, site.enrol("leg"))
    for name, peer, health in (("arm", arm, HEALTH), ("leg", leg, RobotHealth())):
        peer.hello(name, wire_version=4)
        peer.send(encode_message(beat_with_health(health)))
        peer.submit(1, encode_episode(make_episode(name)))
    with urllib.request.urlopen(f"http://{gateway.metrics_endpoint}/targets") as answer:
        assert answer.headers["Content-Type"] == "application/json"
        groups = json.load(answer)
    assert groups == [
        {
            "targets": [gateway.metrics_endpoint],
            "labels": {"__meta_graspfleet_part": "gateway"},
        },
        {
            "targets": ["127.0.0.1:9751"],
            "labels": {"__meta_graspfleet_part": "agent", "__meta_graspfleet_robot": "arm"},
        },
    ]
    for peer in (arm, leg):
        peer.close()


def test_another_page_is_refused_and_a_registry_that_is_gone_is_said(
    site: DeliverySite, start: Callable[..., Gateway]
):
    gateway = start()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://{gateway.metrics_endpoint}/secrets")
    (site.folder / "registry").rename(site.folder / "elsewhere")
    with pytest.raises(urllib.error.HTTPError, match="500"):
        Exported(gateway.metrics_endpoint)
    (site.folder / "elsewhere").rename(site.folder / "registry")
    assert Exported(gateway.metrics_endpoint).value("graspfleet_robots_enrolled") == 0


def facts(task: str) -> AttemptFacts:
    record = encode_episode(dataclasses.replace(make_episode("arm"), task=task))
    return facts_of(read_episode_meta(record), len(record))


def test_no_robot_makes_a_series_for_every_word_it_can_think_of():
    counts = AttemptCounts()
    words = [facts(f"task {number}") for number in range(3 * MOST_TASKS)]
    counts.add(("arm", word) for word in words)
    tasks = counts.totals().tasks
    assert len(tasks) == TASKS_OF_ROBOT + 1
    assert tasks[OTHER_TASKS, Label.SUCCESS] == len(words) - TASKS_OF_ROBOT
    counts.add(("leg", word) for word in (facts("sorting"), words[0]))
    assert counts.totals().tasks["sorting", Label.SUCCESS] == 1
    assert counts.totals().tasks["task 0", Label.SUCCESS] == 2


def test_many_robots_make_no_more_tasks_than_the_list_holds():
    counts = AttemptCounts()
    counts.add((f"arm-{number}", facts(f"task {number}")) for number in range(3 * MOST_TASKS))
    tasks = counts.totals().tasks
    assert len(tasks) == MOST_TASKS + 1
    assert tasks[OTHER_TASKS, Label.SUCCESS] == 2 * MOST_TASKS
