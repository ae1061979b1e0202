"""What an agent tells Prometheus by itself of its robot's wire."""

from __future__ import annotations

import dataclasses
import re
import urllib.request
from contextlib import closing
from pathlib import Path

import msgspec

from protocol.messages import RobotHealth
from robot_agent.config import MetricsConfig
from robot_agent.delivery.uplink import UplinkStats
from robot_agent.metrics import AgentMetrics
from tests.delivery_site import make_heartbeat
from tests.free_ports import free_port
from tests.robot_agent.robots.emulated_arms import emulated_so101
from tests.robot_agent.simulated_agent import make_config

STATS = UplinkStats(is_welcome=True, sent_episodes=0, sent_bytes=0, acked_episodes=0, reconnects=0)


def test_what_happens_on_the_wire_of_an_arm_is_counted(tmp_path: Path):
    config = dataclasses.replace(
        make_config(tmp_path), metrics=MetricsConfig(bind=f"127.0.0.1:{free_port()}")
    )
    with emulated_so101(tmp_path / "arm") as arm, closing(arm.open()) as robot:
        arm.port.faults.garbled = 1
        robot.state()
        beat = msgspec.structs.replace(make_heartbeat(), health=RobotHealth())
        with closing(AgentMetrics(config, lambda: beat, lambda: STATS, robot)) as metrics:
            url = f"http://127.0.0.1:{metrics.offered_port}/metrics"
            page = urllib.request.urlopen(url).read().decode()
    counted = dict(
        re.findall(r'^graspfleet_agent_bus_(\w+)_total\{robot="\S+"\} (\S+)$', page, re.M)
    )
    assert float(counted["checksum_errors"]) >= 1
    assert float(counted["retries"]) >= 1
    assert float(counted["transactions"]) > float(counted["retries"])
    assert "reopened" in counted
