"""What a simulated attempt and a picture cost, also as a ratio to one bare physics step.

python -m tests.benchmarks.bench_simulator --seconds 20 --out FILE
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Callable

import mujoco
import numpy as np

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError
from robot_agent.cameras.simulated import SimulatedCamera
from robot_agent.robots.simulated import SimulatedRobot
from robot_agent.robots.simulated.scene import WORKSPACE_M
from tests.benchmarks.figures import Figure, Findings, add_out_option, report

PICTURES_PER_ATTEMPT = 4
SIZES_PX = (64, 96, 128)
ATTEMPT_S = 0.1
"""About what one attempt takes, to choose how many fit."""
_SEED = 1


def cpu_ms(work: Callable[[], object], times: int) -> float:
    """Mean CPU milliseconds of ``work``."""
    started = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - started) / times * 1e3


def random_attempt(
    robot: SimulatedRobot, camera: SimulatedCamera, random: np.random.Generator
) -> bool:
    """Two random waypoints, close, lift, retreat, put back; True if something was held."""
    (x_low, x_high), (y_low, y_high), _ = WORKSPACE_M

    def move(low_m: float, high_m: float) -> None:
        robot.move_to(
            GripperPose(
                x_m=random.uniform(x_low, x_high),
                y_m=random.uniform(y_low, y_high),
                z_m=random.uniform(low_m, high_m),
                yaw_rad=random.uniform(-math.pi / 2, math.pi / 2),
            )
        )

    robot.prepare_attempt()
    camera.capture()
    robot.open_gripper()
    move(0.10, 0.12)
    camera.capture()
    move(0.03, 0.10)
    camera.capture()
    move(0.001, 0.02)
    robot.close_gripper()
    here = robot.state().pose
    robot.move_to(GripperPose(x_m=here.x_m, y_m=here.y_m, z_m=0.15, yaw_rad=here.yaw_rad))
    success = robot.reference_outcome().success
    robot.retreat()
    if success:
        robot.move_to(GripperPose(x_m=0.0, y_m=0.0, z_m=0.10, yaw_rad=0.0))
    robot.open_gripper()
    if success:
        robot.retreat()
    camera.capture()
    return success


def attempt_figures(attempts: int, step_ms: float) -> list[Figure]:
    """Return what attempts cost with and without their pictures, and how many succeed."""
    robot = SimulatedRobot.open({"seed": _SEED})
    camera = SimulatedCamera.open({}, width_px=64, height_px=64, robot=robot)
    random = np.random.default_rng(5)
    successes = 0

    def attempt() -> None:
        nonlocal successes
        successes += random_attempt(robot, camera, random)

    whole_ms = cpu_ms(attempt, attempts)
    fresh_ms = cpu_ms(lambda: SimulatedRobot.open({"seed": _SEED}), 20)
    return [
        cost(f"random attempt, {PICTURES_PER_ATTEMPT} pictures", whole_ms, step_ms),
        cost("fresh bin, settled", fresh_ms, step_ms),
        Figure(
            name="random attempts that succeed",
            value=successes / attempts,
            unit="",
            note=f"{successes} of {attempts}; {robot.scene_resets} bins refilled early",
        ),
    ]


def picture_figures(step_ms: float, failures: list[str]) -> list[Figure]:
    """Return what a picture costs with the hand in view, per renderer and size."""
    robot = SimulatedRobot.open({"seed": _SEED})
    robot.move_to(GripperPose(x_m=0.0, y_m=0.0, z_m=0.05, yaw_rad=0.3))
    figures = []
    for renderer in ("rays", "gl"):
        for size in SIZES_PX:
            try:
                camera = SimulatedCamera.open(
                    {"renderer": renderer}, width_px=size, height_px=size, robot=robot
                )
                camera.capture()
            except ConfigurationError as error:
                failures.append(f"picture, {renderer}: {error}")
                break
            picture_ms = cpu_ms(camera.capture, 50)
            camera.close()
            figures.append(cost(f"picture, {renderer}, {size} px", picture_ms, step_ms))
    return figures


def cost(name: str, value_ms: float, step_ms: float) -> Figure:
    """Return a CPU time, beside what it is in steps of the physics."""
    return Figure(name=name, value=value_ms, unit="ms", note=f"{value_ms / step_ms:.0f} steps")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="for random attempts (20)")
    add_out_option(parser)
    arguments = parser.parse_args()
    scene = SimulatedRobot.open({"seed": _SEED}).scene
    step_ms = cpu_ms(lambda: mujoco.mj_step(scene.model, scene.data, nstep=1000), 3) / 1000
    attempts = max(10, int(arguments.seconds / ATTEMPT_S))
    failures: list[str] = []
    figures = [
        Figure(name="bare step, objects asleep", value=step_ms, unit="ms"),
        *attempt_figures(attempts, step_ms),
        *picture_figures(step_ms, failures),
    ]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    figures.append(Figure(name="peak memory", value=peak_mb, unit="MB"))
    settings = {"attempts": attempts, "seed": _SEED, "time": "of the CPU"}
    title = "The simulator: what attempts and pictures cost"
    findings = Findings(title=title, settings=settings, figures=figures, failures=failures)
    report(findings, arguments.out)


if __name__ == "__main__":
    main()
