"""The doctor before a simulated robot and a real gateway: what is well, and what is not."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from fleet.toml_text import toml_text
from learner.ingestion.gateway import Gateway
from protocol.episode import GripperPose
from protocol.security import load_curve_public, release_public_pem
from robot_agent.cameras.base import Frame
from robot_agent.checks.arm import check_reach
from robot_agent.checks.camera import check_camera, check_sharpness
from robot_agent.checks.doctor import examine
from robot_agent.checks.network import check_network
from robot_agent.checks.stop import check_stop
from robot_agent.checks.subject import SUBJECTS
from robot_agent.config import AgentConfig, LearnerEndpointConfig
from robot_agent.delivery.outbox_file import claim
from robot_agent.robots.check_result import CheckResult, Verdict
from robot_agent.safety.emergency_stop import EmergencyStop
from robot_agent.safety.stop_latch import Stop, StopLatch
from tests.delivery_site import DeliverySite, make_site
from tests.free_ports import free_port
from tests.robot_agent.agent_process import ask, simulated_bin
from tests.robot_agent.drawn_robot import DrawnRobot
from tests.robot_agent.simulated_agent import make_config
from tests.waiting import wait_until

NAME = "robot-1"


@pytest.fixture
def site(tmp_path: Path) -> DeliverySite:
    site = make_site(tmp_path)
    site.enrol(NAME)
    (tmp_path / "keys" / "release.public").write_bytes(
        release_public_pem(site.release_secret().public_key())
    )
    return site


@pytest.fixture
def gateway(site: DeliverySite) -> Iterator[Gateway]:
    with site.running_gateway() as gateway:
        yield gateway


@pytest.fixture
def config(site: DeliverySite) -> AgentConfig:
    keys = site.folder / "keys"
    return make_config(
        site.outbox_folder(NAME),
        {"seed": 3},
        secret_key=keys / f"{NAME}.secret",
        learner=LearnerEndpointConfig(
            episodes=site.endpoint,
            # A handshake is all that it is asked for.
            releases=site.endpoint,
            public_key=keys / "learner.key",
            release_key=keys / "release.public",
        ),
    )


def worst(results: list[CheckResult]) -> CheckResult:
    return max(results, key=lambda one: list(Verdict).index(one.verdict))


def test_a_robot_that_can_work_has_no_failure(gateway: Gateway, config: AgentConfig):
    with EmergencyStop(config.name, StopLatch(config.state_folder)) as emergency:
        results = list(examine(config, emergency=emergency))
    assert [one for one in results if one.verdict == Verdict.FAIL] == []
    found = {one.subject: one.finding for one in results}
    assert "welcome as robot-1, wire version" in found["gateway"]
    assert "64x64 px" in found["camera"]
    assert "512x512 px" in found["sharpness"]
    assert found["gripper"].startswith("opens to 80")
    assert {"pose", "reach", "sharpness", "exposure", "hand-eye map", "disk space"} <= found.keys()


def test_without_leave_to_move_nothing_moves(config: AgentConfig):
    config = dataclasses.replace(
        config, robot=dataclasses.replace(config.robot, options={"fail_at": 1})
    )
    subjects = {one.subject for one in examine(config, skip=["network", "camera"])}
    assert "pose" in subjects
    assert "gripper" not in subjects


def test_what_is_skipped_is_not_looked_at(config: AgentConfig):
    assert list(examine(config, skip=SUBJECTS)) == []


def test_a_robot_that_does_not_open_is_one_failure_among_the_results(config: AgentConfig):
    config = dataclasses.replace(
        config, robot=dataclasses.replace(config.robot, options={"gripper_waer": 1})
    )
    results = list(examine(config, skip=["network", "camera"]))
    (failure,) = [one for one in results if one.verdict == Verdict.FAIL]
    assert failure.subject == "robot"
    assert "gripper_wear" in failure.finding
    assert failure.remedy


def test_a_robot_that_was_stopped_is_a_failure_that_says_how_it_goes_on(config: AgentConfig):
    latch = StopLatch(config.state_folder)
    latch.set(Stop.now("by a person in a test"))
    results = {one.subject: one for one in examine(config, skip=["network", "camera"])}
    assert "pose" in results
    result = results["stop"]
    assert result.verdict == Verdict.FAIL
    assert "by a person in a test" in result.finding
    assert "robot-agent resume" in result.remedy
    latch.release(latch.stops())
    assert next(check_stop(config)).verdict == Verdict.OK


def test_a_robot_that_cannot_be_closed_is_a_failure_after_all_others(config: AgentConfig):
    options = {"fails_to_close": True}
    config = dataclasses.replace(config, robot=dataclasses.replace(config.robot, options=options))
    last = list(examine(config, skip=["network", "camera"]))[-1]
    assert (last.subject, last.verdict) == ("robot", Verdict.FAIL)
    assert "hung up" in last.finding


def test_beside_an_agent_that_works_arm_and_camera_are_left_alone(config: AgentConfig):
    with claim(config.state_folder):
        last = list(examine(config, skip=["network"]))[-1]
    assert (last.subject, last.verdict) == ("agent", Verdict.WARN)
    assert "systemctl stop" in last.remedy


def test_a_robot_whose_agent_is_connected_is_accepted(
    site: DeliverySite, gateway: Gateway, config: AgentConfig
):
    outbox = site.outbox(NAME)
    uplink = site.uplink(NAME, outbox)
    uplink.start()
    wait_until(lambda: uplink.stats.is_welcome, "the agent is welcome")
    first = next(iter(check_network(config)))
    uplink.close(5.0)
    outbox.close()
    assert (first.verdict, first.subject) == (Verdict.OK, "gateway")
    assert "agent is connected" in first.finding


def test_a_robot_that_is_not_enrolled_is_told_so(
    site: DeliverySite, gateway: Gateway, config: AgentConfig
):
    site.make_keys("stranger")
    config = dataclasses.replace(config, secret_key=site.folder / "keys" / "stranger.secret")
    for result in check_network(config):
        assert result.verdict == Verdict.FAIL
        assert "not enrolled" in result.finding


def test_a_robot_under_another_name_is_told_so(gateway: Gateway, config: AgentConfig):
    result = next(iter(check_network(dataclasses.replace(config, name="robot-2"))))
    assert result.verdict == Verdict.FAIL
    assert "correct 'name'" in result.finding


def test_a_learner_of_another_key_is_told(
    site: DeliverySite, gateway: Gateway, config: AgentConfig
):
    site.make_keys("other")
    path = site.folder / "keys" / "other.key"
    assert load_curve_public(path) != site.server_public()
    config = dataclasses.replace(
        config, learner=dataclasses.replace(config.learner, public_key=path)
    )
    assert next(iter(check_network(config))).verdict == Verdict.FAIL


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        (f"tcp://127.0.0.1:{free_port()}", "no TCP connection"),
        ("tcp://no-such-host.invalid:5701", "cannot be resolved"),
    ],
    ids=["nobody-listens", "no-such-host"],  # several processes collect the same tests
)
def test_a_learner_that_is_not_there_is_told(config: AgentConfig, endpoint: str, said: str):
    learner = dataclasses.replace(config.learner, episodes=endpoint)
    result = next(iter(check_network(dataclasses.replace(config, learner=learner))))
    assert result.verdict == Verdict.FAIL
    assert said in result.finding


class ShortArm(DrawnRobot):
    """Reaches 5 cm to the right."""

    def nearest_reachable(self, pose: GripperPose) -> GripperPose:
        return dataclasses.replace(pose, x_m=min(pose.x_m, 0.05))


class HollowArm(DrawnRobot):
    """Reaches everywhere but within 5 cm of the middle of the bin."""

    def nearest_reachable(self, pose: GripperPose) -> GripperPose:
        away_m = math.hypot(pose.x_m, pose.y_m)
        return pose if away_m > 0.05 else dataclasses.replace(pose, x_m=pose.x_m + 0.05 - away_m)


@pytest.mark.parametrize(
    ("arm", "places", "short"),
    [(ShortArm(), "9 of 27 places", "short by 55 mm"), (HollowArm(), "3 of 27", "short by 50 mm")],
    ids=lambda value: type(value).__name__,
)
def test_places_out_of_reach_are_told_with_the_worst(
    config: AgentConfig, arm: DrawnRobot, places: str, short: str
):
    (result,) = check_reach(arm, config)
    assert result.verdict == Verdict.WARN
    assert result.finding.startswith(places)
    assert short in result.finding


class StillCamera:
    """Gives the pictures that it was made with, the last one again and again."""

    def __init__(self, *images: np.ndarray, exposed_ns: int = 2**62) -> None:
        self._images = list(images)
        self._exposed_ns = exposed_ns

    def capture(self) -> Frame:
        image = self._images.pop(0) if len(self._images) > 1 else self._images[0]
        return Frame(image=image, captured_at_ns=1, exposed_ns=self._exposed_ns)

    def close(self) -> None:
        """Nothing to disconnect."""


def pictures(low: int, high: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(low, high, (48, 64, 3), np.uint8) for _ in range(12)]


@pytest.mark.parametrize(
    ("camera", "subject", "verdict", "said"),
    [
        (StillCamera(pictures(60, 200)[0]), "camera", Verdict.FAIL, "frozen"),
        (StillCamera(*pictures(60, 200), exposed_ns=1), "camera", Verdict.FAIL, "older"),
        (StillCamera(*pictures(0, 40)), "exposure", Verdict.WARN, "under-exposed"),
        (StillCamera(*pictures(200, 256)), "exposure", Verdict.WARN, "over-exposed"),
    ],
)
def test_a_camera_that_shows_nothing_useful_is_told(
    camera: StillCamera, subject: str, verdict: Verdict, said: str
):
    result = worst(list(check_camera(camera)))
    assert (result.subject, result.verdict) == (subject, verdict)
    assert said in result.finding
    assert result.remedy


def board(blur_px: float) -> list[np.ndarray]:
    """Return two pictures of a chequered board through a lens, each with noise of its own."""
    squares = 60.0 + 120.0 * ((np.indices((512, 512)) // 64).sum(axis=0) % 2)
    seen = cv2.GaussianBlur(squares, (0, 0), blur_px)[..., None]
    rng = np.random.default_rng(0)
    noisy = [seen + rng.normal(0, 3, (512, 512, 3)) for _ in range(2)]
    return [one.clip(0, 255).astype(np.uint8) for one in noisy]


@pytest.mark.parametrize(
    ("blur_px", "verdict"), [(0.7, Verdict.OK), (2.5, Verdict.WARN), (8.0, Verdict.WARN)]
)
def test_a_lens_out_of_focus_is_told_though_its_pictures_are_noisy(
    blur_px: float, verdict: Verdict
):
    (result,) = check_sharpness(StillCamera(*board(blur_px)))
    assert result.verdict == verdict, result
    assert "512x512 px" in result.finding


def test_the_command_says_what_to_do_and_ends_with_one(config: AgentConfig, tmp_path: Path):
    done = run_check(config, tmp_path, "--skip", "clock")
    assert done.returncode == 1
    assert "FAIL  gateway" in done.stdout
    advice = done.stdout.split("What to do:\n")[1]
    assert advice.strip().startswith("gateway: is the learner running")


def test_the_command_ends_with_zero_for_a_robot_that_can_work(
    gateway: Gateway, config: AgentConfig, tmp_path: Path
):
    done = run_check(config, tmp_path, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert (found["robot"], found["well"]) == (NAME, True)
    assert {"subject", "verdict", "finding", "remedy"} <= set(found["results"][0])


def run_check(
    config: AgentConfig, tmp_path: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    keys = tmp_path / "keys"
    table = {
        "name": NAME,
        "state_folder": str(config.state_folder),
        "secret_key": str(config.secret_key),
        "robot": {"driver": config.robot.driver},
        "camera": {"driver": config.camera.driver},
        **simulated_bin(),
        "learner": {
            "episodes": config.learner.episodes,
            "releases": config.learner.releases,
            "public_key": str(keys / "learner.key"),
            "release_key": str(keys / "release.public"),
        },
    }
    toml = tmp_path / "robot.toml"
    toml.write_text(toml_text(table))
    return ask("check", "--config", toml, *arguments)
