"""Who else can be asked for metrics, in the format of Prometheus' HTTP service discovery."""

from __future__ import annotations

from typing import TypedDict

from learner.monitoring.fleet_snapshot import FleetSnapshot, RobotSnapshot


class TargetGroup(TypedDict):
    """Targets with the same labels."""

    targets: list[str]
    labels: dict[str, str]


def targets_of(snapshot: FleetSnapshot, own: str) -> list[TargetGroup]:
    """Return the gateway at ``own`` and every live agent that offers an endpoint."""
    agents = [_agent(robot) for robot in snapshot.robots if _offered_port(robot)]
    return [TargetGroup(targets=[own], labels={"__meta_graspfleet_part": "gateway"}), *agents]


def _offered_port(robot: RobotSnapshot) -> int:
    beat = robot.view.heartbeat
    if not robot.view.is_live or beat is None or beat.health is None or not robot.view.address:
        return 0
    return beat.health.metrics_port


def _agent(robot: RobotSnapshot) -> TargetGroup:
    # The address that it connects from, not one of its choosing: no robot shall send Prometheus
    # to ask elsewhere.
    address = robot.view.address
    host = f"[{address}]" if ":" in address else address
    return TargetGroup(
        targets=[f"{host}:{_offered_port(robot)}"],
        labels={"__meta_graspfleet_part": "agent", "__meta_graspfleet_robot": robot.name},
    )
