"""What a gateway tells an operator of the learner itself."""

from __future__ import annotations

import dataclasses

import pytest

from learner.ingestion.gateway import Gateway
from protocol.limits import MAX_QUEUED_BYTES
from protocol.messages import LearnerCondition
from tests.delivery_site import STORE_BYTES, DeliverySite
from tests.learner.monitoring.test_metrics import REPORT
from tests.peer import Peer
from tests.waiting import wait_until


def condition(gateway: Gateway) -> LearnerCondition:
    (found,) = gateway.status().conditions
    return found


def test_store_and_disk_are_told_as_they_are(gateway: Gateway):
    found = condition(gateway)
    assert 0 < found.store_bytes <= found.store_limit_bytes == STORE_BYTES
    assert 0 < found.disk_free_bytes <= found.disk_size_bytes
    assert (found.queued_bytes, found.queue_limit_bytes) == (0, MAX_QUEUED_BYTES)


def test_training_is_told_from_the_first_report_on(gateway: Gateway):
    silent = condition(gateway)
    assert (silent.trainer_silent_s, silent.training_stalled_s) == (None, None)
    gateway.note_training(REPORT)
    found = condition(gateway)
    assert found.training_steps == REPORT.steps
    assert found.trainer_silent_s is not None
    assert found.training_stalled_s == pytest.approx(found.trainer_silent_s, abs=1e-6)


def test_a_gateway_that_was_started_anew_hears_of_the_release_from_the_trainer(gateway: Gateway):
    assert gateway.status().release_version == 0
    gateway.note_training(REPORT)
    assert gateway.status().release_version == REPORT.release_version
    gateway.release_published(REPORT.release_version + 1)
    gateway.note_training(REPORT)
    assert gateway.status().release_version == REPORT.release_version + 1
    assert gateway.status().releases_published == 1


def stalled_longer_than_silent(gateway: Gateway) -> bool:
    found = condition(gateway)
    return (found.training_stalled_s or 0.0) > (found.trainer_silent_s or 0.0)


def test_only_a_trainer_that_could_go_on_and_makes_no_step_has_stalled(gateway: Gateway):
    busy = dataclasses.replace(REPORT, is_waiting=False)
    gateway.note_training(busy)
    gateway.note_training(busy)
    assert stalled_longer_than_silent(gateway)
    gateway.note_training(dataclasses.replace(busy, steps=busy.steps + 1))
    assert not stalled_longer_than_silent(gateway)
    gateway.note_training(dataclasses.replace(busy, steps=busy.steps + 1, is_waiting=True))
    assert not stalled_longer_than_silent(gateway)


def test_who_knocks_with_a_key_that_is_not_accepted_is_counted(
    site: DeliverySite, gateway: Gateway
):
    peer = Peer(site, site.make_keys("stranger"))
    wait_until(lambda: condition(gateway).keys_refused > 0, "the knock is counted")
    peer.close()


def test_a_disk_that_went_away_is_said_and_hides_nothing_else(site: DeliverySite, gateway: Gateway):
    site.enrol("arm")
    site.store.rename(site.folder / "elsewhere")
    status = gateway.status()
    assert [robot.robot_id for robot in status.robots] == ["arm"]
    assert status.conditions == []
    assert status.warnings[-1].startswith("the store's disk cannot be looked at: ")
    (site.folder / "elsewhere").rename(site.store)
