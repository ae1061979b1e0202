"""What `fleet stop` says, and its exit status."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fleet.commands.stops import stop
from fleet.operator import registry_of
from fleet.run_folder import RunFolder
from learner.config import LearnerConfig
from learner.ingestion.gateway import Gateway
from learner.ingestion.stop_orders import STOPS_FILE, StopOrders
from protocol.configuration import load_toml


@contextmanager
def gateway_of(folder: RunFolder) -> Iterator[None]:
    config = load_toml(folder.learner_config, LearnerConfig)
    gateway = Gateway(config.gateway, config.keys.server_secret, config.keys.registry)
    gateway.start()
    try:
        yield
    finally:
        gateway.stop()


def test_who_stops_all_robots_of_a_learner_that_has_none_is_told_that_nobody_was_stopped(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
):
    for name in folder.robot_names():
        registry_of(folder).revoke(name)
    with gateway_of(folder):
        assert stop(run=folder.root, all=True) == 3
    assert "nobody was stopped: no robot is enrolled" in capsys.readouterr().out


def test_an_order_that_waits_for_a_robot_that_stands_already_is_said_to_wait(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
):
    folder.store.mkdir(parents=True)
    orders = StopOrders(folder.store / STOPS_FILE)
    order_id = os.urandom(16)
    orders.add(["robot-01"], order_id, "operator")
    orders.confirm("robot-01", order_id, resumed=False)
    with gateway_of(folder):
        assert stop("robot-01", run=folder.root) == 0
    said = capsys.readouterr().out
    assert "robot-01 has stopped, by an earlier order" in said
    assert "it stops again when it is started" in said
