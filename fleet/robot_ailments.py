"""What a robot's own measurements, and the test for drift, say against it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from fleet.concern import Concern, critical, warning
from fleet.words import counted, duration
from protocol.messages import RobotHealth, RobotStatus, StopState

MOST_SHIFT_PX = 2.0
MOST_ZERO_DRIFT_M = 0.002
MOST_TEMPERATURE_C = 51.0
MOST_WAITING_S = 600.0
MOST_OUTBOX_SHARE = 0.5
ALMOST_FULL_OUTBOX_SHARE = 0.9
"""As in the alerts of deploy/prometheus; a test compares."""


def ailments(robot: RobotStatus) -> Iterator[Concern]:
    """Yield what is wrong with a robot itself, whatever becomes of its episodes."""
    if robot.stop is not None:
        yield _stopped(robot.stop)
    elif robot.health is not None and robot.health.safety_stops:
        yield critical(
            robot.robot_id,
            "it has stopped for safety",
            "it stands until a person has looked at it and runs 'robot-agent resume' there",
        )
    if robot.health is not None and robot.connected:
        yield from _measured(robot.robot_id, robot.health)
        yield from _outbox(robot, robot.health.outbox_limit_bytes)
    yield from _unlike_before(robot)


def _stopped(stop: StopState) -> Concern:
    ordered = datetime.fromtimestamp(stop.ordered_at_ns / 1e9, UTC)
    done = "and holds still" if stop.confirmed_at_ns else "but has not said that it holds still"
    return critical(
        stop.robot_id,
        f"it was stopped by {stop.by} at {ordered:%Y-%m-%d %H:%M:%S} UTC, {done}",
        "it stands until a person has looked at it and runs 'robot-agent resume' there"
        if stop.confirmed_at_ns
        else "it stops when it connects; until then go there",
    )


def _measured(name: str, health: RobotHealth) -> Iterator[Concern]:
    if not health.camera_ok:
        yield warning(name, "the camera gives no picture", "look at its cable")
    if not health.servos_ok:
        yield warning(name, "arm or gripper does not answer", "look at its cable and its supply")
    shift_px, zero_m, hot_c = (
        health.camera_shift_px,
        health.gripper_zero_drift_m,
        health.temperature_c,
    )
    if shift_px is not None and shift_px > MOST_SHIFT_PX:
        yield warning(
            name,
            f"the camera has moved by {shift_px:.1f} px since the hand-eye map was found",
            "let it find its map anew",
        )
    if zero_m is not None and abs(zero_m) > MOST_ZERO_DRIFT_M:
        yield warning(
            name,
            f"closed on nothing, the gripper reads {1e3 * zero_m:.1f} mm more than when it was new",
            "look at its fingers: labels are made of that reading",
        )
    if hot_c is not None and hot_c > MOST_TEMPERATURE_C:
        yield warning(name, f"{hot_c:.0f} °C", "look for what blocks it")
    if health.outbox_oldest_s > MOST_WAITING_S:
        yield warning(
            name,
            f"an episode has waited for {duration(health.outbox_oldest_s)}",
            "its log says why the learner does not take it",
        )


def _outbox(robot: RobotStatus, limit_bytes: int) -> Iterator[Concern]:
    share = robot.outbox_bytes / limit_bytes if limit_bytes else 0.0
    if share > MOST_OUTBOX_SHARE:
        yield (critical if share > ALMOST_FULL_OUTBOX_SHARE else warning)(
            robot.robot_id,
            f"its outbox is {share:.0%} full, with {counted(robot.outbox_episodes, 'episode')}",
            "its network or the learner's disk does not keep up",
        )


def _unlike_before(robot: RobotStatus) -> Iterator[Concern]:
    success, calibration = robot.success_drift, robot.calibration_drift
    if success is not None and success.detected:
        yield warning(
            robot.robot_id,
            f"success has left its past: {success.now:.0%} instead of {success.before:.0%} for "
            f"about {counted(success.since, 'attempt')}",
            "look at its gripper and its camera",
        )
    if calibration is not None and calibration.detected:
        yield warning(
            robot.robot_id,
            "predictions have left what it achieves: where it predicts 80%, about "
            f"{calibration.now:.0%} succeed instead of {calibration.before:.0%}",
            "look at its camera, then let it find its hand-eye map anew",
        )
