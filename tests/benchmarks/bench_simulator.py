"""What a simulated attempt and a picture cost, also as a ratio to one bare physics step.

Run: python tests/benchmarks/bench_simulator.py [--attempts N]
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

PICTURES_PER_ATTEMPT = 4
SIZES_PX = (64, 96, 128)


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


def report_attempts(attempts: int, step_ms: float) -> None:
    """Print the cost of attempts with and without their pictures, and how many succeed."""
    robot = SimulatedRobot.open({"seed": 1})
    camera = SimulatedCamera.open({}, width_px=64, height_px=64, robot=robot)
    random = np.random.default_rng(5)
    successes = 0

    def attempt() -> None:
        nonlocal successes
        successes += random_attempt(robot, camera, random)

    whole_ms = cpu_ms(attempt, attempts)
    fresh_ms = cpu_ms(lambda: SimulatedRobot.open({"seed": 1}), 20)
    print(f"random attempt, {PICTURES_PER_ATTEMPT} pictures  {whole_ms:8.2f} ms"
          f"  {whole_ms / step_ms:9.0f} steps")  # fmt: skip
    print(f"fresh bin, settled         {fresh_ms:8.2f} ms  {fresh_ms / step_ms:9.0f} steps")
    print(f"random success             {successes}/{attempts} = {successes / attempts:.3f}")
    print(f"bins refilled early        {robot.scene_resets}")


def report_pictures(step_ms: float) -> None:
    """Print the cost of a picture with the hand in view, per renderer and size."""
    robot = SimulatedRobot.open({"seed": 1})
    robot.move_to(GripperPose(x_m=0.0, y_m=0.0, z_m=0.05, yaw_rad=0.3))
    for renderer in ("rays", "gl"):
        for size in SIZES_PX:
            try:
                camera = SimulatedCamera.open(
                    {"renderer": renderer}, width_px=size, height_px=size, robot=robot
                )
                camera.capture()
            except ConfigurationError as error:
                print(f"picture, {renderer}: {error}")
                break
            picture_ms = cpu_ms(camera.capture, 50)
            camera.close()
            print(f"picture, {renderer:4} {size:3} px       {picture_ms:8.2f} ms"
                  f"  {picture_ms / step_ms:9.0f} steps")  # fmt: skip


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=300)
    attempts = parser.parse_args().attempts
    scene = SimulatedRobot.open({"seed": 1}).scene
    step_ms = cpu_ms(lambda: mujoco.mj_step(scene.model, scene.data, nstep=1000), 3) / 1000
    print(f"bare step, objects asleep  {step_ms:8.4f} ms")
    report_attempts(attempts, step_ms)
    report_pictures(step_ms)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"peak memory                {peak_mb:8} MB")


if __name__ == "__main__":
    main()
