"""The learner changes its key: real sockets on both sides, robots on and off meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet.enrolment import LearnerAddress, enrol_robot
from fleet.fleet_files import FleetPlan, prepare_run_folder
from fleet.key_rotation import KeyRotation
from fleet.robot_stops import StopOrder
from fleet.run_folder import RunFolder
from learner.config import GatewayConfig
from learner.ingestion.gateway import Gateway
from learner.releases.server import ReleaseServer
from protocol.codec import encode_episode
from protocol.errors import ConfigurationError
from protocol.key_notice import sign_key_notice
from protocol.registry import Registry
from protocol.security import (
    create_curve_keys,
    load_curve_keys,
    load_release_public,
    load_release_secret,
)
from protocol.server_key import mark_confirmed
from robot_agent.config import OutboxConfig
from robot_agent.delivery.gateways import Gateways
from robot_agent.delivery.outbox import Outbox
from robot_agent.delivery.uplink import Uplink
from robot_agent.learner_keys import LearnerKeys
from robot_agent.releases.receiver import ReleaseReceiver
from tests.delivery_site import STORE_BYTES, confirm_stop, make_heartbeat
from tests.episodes import make_episode
from tests.free_ports import free_port
from tests.learner_keys import create_learner_keys
from tests.releases import CALIBRATION, SIZE_PX, make_release
from tests.waiting import wait_until


class Robot:
    """What an agent does with its bundle, without a robot."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.bundle = lab.folder / f"{name}-bundle"
        self.state = lab.folder / f"{name}-state"
        if not self.bundle.exists():
            enrol_robot(lab.registry, name, self.bundle, lab.address)
        self.name = name
        self._lab = lab
        verify_key = load_release_public(self.bundle / "release.public")
        self.learner_keys = LearnerKeys.of_bundle(
            self.bundle / "server.public", verify_key=verify_key, state_folder=self.state
        )
        self.outbox = Outbox(self.state, OutboxConfig())
        keys = load_curve_keys(self.bundle / "robot.secret")
        self.uplink = Uplink(
            name=name,
            gateways=Gateways([lab.address.episodes], self.state),
            keys=keys,
            learner_keys=self.learner_keys,
            outbox=self.outbox,
            heartbeat=lambda: make_heartbeat(next_server_key=self.learner_keys.next),
            obey_stop=confirm_stop,
        )
        self.receiver = ReleaseReceiver(
            endpoint=lab.address.releases,
            keys=keys,
            learner_keys=self.learner_keys,
            verify_key=verify_key,
            state_folder=self.state,
            robot_id=name,
            calibration=CALIBRATION,
            height_px=SIZE_PX,
            width_px=SIZE_PX,
            subscribe_every_s=0.1,
        )
        self.uplink.start()
        self.receiver.start()
        lab.robots.append(self)

    def deliver(self) -> None:
        """Spool an episode and wait until the learner has it."""
        self.outbox.put(encode_episode(make_episode(self.name, self.outbox.counts().written)))
        self.uplink.notify()
        wait_until(lambda: self.outbox.counts().waiting == 0, f"{self.name} delivers")

    def switch_off(self) -> None:
        self._lab.robots.remove(self)
        self.uplink.close(0.0)
        self.receiver.close()
        self.outbox.close()


class Lab:
    """The learner's keys, gateway and release server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = Registry(folder / "registry")
        (folder / "registry").mkdir()
        self.keys = folder / "keys"
        create_learner_keys(self.keys)
        self.address = LearnerAddress(
            keys=self.keys,
            episodes=f"tcp://127.0.0.1:{free_port()}",
            releases=f"tcp://127.0.0.1:{free_port()}",
        )
        self.rotation = KeyRotation(self.keys, self.registry)
        self.robots: list[Robot] = []
        self.start()

    def start(self) -> None:
        config = GatewayConfig(
            bind=self.address.episodes, store=self.folder / "store", max_store_bytes=STORE_BYTES
        )
        self.gateway = Gateway(config, self.keys / "server.secret", self.folder / "registry")
        self.gateway.start()
        self.releases = ReleaseServer(
            endpoint=self.address.releases,
            server_secret=self.keys / "server.secret",
            registry=self.registry,
            folder=self.folder / "releases",
            keep=3,
            signing_key=load_release_secret(self.keys / "release.secret"),
        )
        self.releases.start()

    def stop(self) -> None:
        self.gateway.stop()
        self.releases.close()

    def publish(self, version: int) -> None:
        key = load_release_secret(self.keys / "release.secret")
        self.releases.publish(make_release(version, key=key))

    def close(self) -> None:
        for robot in list(self.robots):
            robot.switch_off()
        self.stop()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def wait_for_confirmation(lab: Lab, *names: str) -> None:
    wait_until(lambda: lab.rotation.status().confirmed == list(names), "stored the next key")


def test_robots_that_are_on_follow_the_learner_to_its_next_key(
    lab: Lab, caplog: pytest.LogCaptureFixture
):
    robots = [Robot(lab, "arm-1"), Robot(lab, "arm-2")]
    for robot in robots:
        robot.deliver()
    before = load_curve_keys(lab.keys / "server.secret").public
    lab.rotation.begin()
    wait_for_confirmation(lab, "arm-1", "arm-2")
    assert lab.rotation.finish() == []
    lab.publish(1)
    for robot in robots:
        wait_until(lambda robot=robot: robot.learner_keys.in_use != before, "took the next key")
        robot.deliver()
        wait_until(lambda robot=robot: robot.receiver.version == 1, "has the release")
    assert [robot.stored for robot in lab.gateway.status().robots] == [2, 2]
    assert "does not know this learner's key" not in caplog.text
    assert "not noted" not in caplog.text
    assert sorted(path.name for path in lab.keys.glob("server*")) == [
        "server.public",
        "server.secret",
    ]


def test_a_robot_that_was_off_at_first_learns_the_key_before_it_is_in_use(lab: Lab):
    Robot(lab, "arm").switch_off()
    lab.rotation.begin()
    with pytest.raises(ConfigurationError, match=r"1 robots .* locked out: arm\. .*wire version 2"):
        lab.rotation.finish()
    Robot(lab, "arm")
    wait_for_confirmation(lab, "arm")
    lab.rotation.finish()
    lab.robots[0].deliver()


def test_a_robot_that_an_operator_has_stopped_learns_the_key_all_the_same(lab: Lab):
    robot = Robot(lab, "arm")
    robot.deliver()
    operator = create_curve_keys(lab.keys / "boss.secret", lab.keys / "boss.public")
    lab.registry.enrol("boss", operator.public.decode(), "operator")
    server_public = load_curve_keys(lab.keys / "server.secret").public
    order = StopOrder([lab.address.episodes], operator, server_public, robot_id="arm")
    assert order.give().is_done
    lab.rotation.begin()
    wait_for_confirmation(lab, "arm")
    assert lab.gateway.status().robots[0].stop is not None


def test_a_robot_that_goes_off_with_the_next_key_finds_the_learner_again(lab: Lab):
    robot = Robot(lab, "arm")
    lab.rotation.begin()
    wait_for_confirmation(lab, "arm")
    robot.switch_off()
    lab.rotation.finish()
    lab.stop()
    lab.start()
    again = Robot(lab, "arm")
    again.deliver()
    again.switch_off()
    # The key that worked is remembered: this time no other is tried.
    third = Robot(lab, "arm")
    assert third.learner_keys.in_use == load_curve_keys(lab.keys / "server.secret").public
    assert third.learner_keys.next == ""
    third.deliver()


def test_a_robot_that_was_off_all_the_time_is_told_what_to_do_and_so_is_the_operator(
    lab: Lab, caplog: pytest.LogCaptureFixture
):
    Robot(lab, "arm").switch_off()
    lab.rotation.begin()
    assert lab.rotation.finish(force=True) == ["arm"]
    robot = Robot(lab, "arm")
    wait_until(lambda: "copy server.public" in robot.uplink.trouble, "the robot says what to do")
    wait_until(lambda: lab.gateway.refusals()["server-key"] > 0, "the learner notices")
    assert "does not know this learner's key" in caplog.text
    robot.switch_off()
    (robot.bundle / "server.public").write_bytes((lab.keys / "server.public").read_bytes())
    Robot(lab, "arm").deliver()


def test_a_robot_enrolled_during_the_change_follows_although_it_was_never_on(lab: Lab):
    lab.rotation.begin()
    enrol_robot(lab.registry, "arm", lab.folder / "arm-bundle", lab.address)
    assert lab.rotation.status().confirmed == ["arm"]
    lab.rotation.finish()
    Robot(lab, "arm").deliver()
    enrol_robot(lab.registry, "leg", lab.folder / "leg-bundle", lab.address)
    assert not (lab.folder / "leg-bundle" / "server-next.notice").exists()
    Robot(lab, "leg").deliver()


def test_a_change_that_is_cancelled_harms_nobody_and_may_begin_again(lab: Lab):
    robot = Robot(lab, "arm")
    first = lab.rotation.begin()
    wait_for_confirmation(lab, "arm")
    lab.rotation.cancel()
    with pytest.raises(ConfigurationError, match="no rotation is under way"):
        lab.rotation.finish(force=True)
    second = lab.rotation.begin()
    assert second != first
    wait_until(lambda: robot.learner_keys.next == second, "the robot has the second key")
    wait_for_confirmation(lab, "arm")
    lab.rotation.finish()
    robot.deliver()


def test_a_forged_notice_is_refused_and_said(lab: Lab):
    robot = Robot(lab, "arm")
    other = load_curve_keys(robot.bundle / "robot.secret").public
    robot.learner_keys.take(sign_key_notice(other, Ed25519PrivateKey.generate()))
    assert robot.learner_keys.next == ""
    assert "forged" in robot.learner_keys.trouble
    assert not (robot.state / "learner-keys.json").exists()


def test_only_one_rotation_at_a_time(lab: Lab):
    lab.rotation.begin()
    with pytest.raises(ConfigurationError, match="under way"):
        lab.rotation.begin()


def fleet_command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fleet", "rotate-key", *words, "--run", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_commands_say_who_is_ready_and_refuse_to_lock_robots_out(tmp_path: Path):
    folder = RunFolder(root=tmp_path / "run")
    prepare_run_folder(folder, FleetPlan(robots=2, seed=0))
    assert fleet_command(folder.root, "status").returncode == 2
    assert fleet_command(folder.root, "begin").returncode == 0
    status = fleet_command(folder.root, "status")
    assert status.returncode == 1
    assert "not ready  robot-01, robot-02" in status.stdout
    refused = fleet_command(folder.root, "finish")
    assert refused.returncode == 2
    assert "robot-01, robot-02. Switch them on" in refused.stderr
    forced = fleet_command(folder.root, "finish", "--force")
    assert forced.returncode == 0
    assert "copy the new server.public to: robot-01, robot-02" in forced.stdout
    assert fleet_command(folder.root, "cancel").returncode == 2


KILLED = """
import os, signal, sys
from pathlib import Path
import shutil
from fleet.key_rotation import KeyRotation
from fleet.robot_stops import StopOrder
from protocol.registry import Registry
folder, command, calls = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def counted(function):
    def call(*arguments, **options):
        global calls
        calls -= 1
        if calls < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

for name in ("link", "unlink", "rename", "replace", "mkdir", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
rotation = KeyRotation(folder / "keys", Registry(folder / "registry"))
rotation.finish(force=True) if command == "finish" else rotation.begin()
"""


def run_until_killed(folder: Path, command: str, calls: int) -> bool:
    """Run a command that is killed before its so-manieth change of the disk; True if it ended."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), command, str(calls)], check=False, timeout=60
    )
    assert done.returncode in {0, -9}
    return done.returncode == 0


def test_a_key_that_was_given_up_does_not_come_back_although_cancel_was_killed(tmp_path: Path):
    (tmp_path / "registry").mkdir()
    create_learner_keys(tmp_path / "keys")
    rotation = KeyRotation(tmp_path / "keys", Registry(tmp_path / "registry"))
    first = rotation.begin()
    mark_confirmed(tmp_path / "keys" / "server.secret", "arm", first)
    rotation._notice.unlink()  # as far as cancel came
    assert rotation.begin() != first
    assert not any(rotation._confirmed.iterdir())


@pytest.mark.parametrize("command", ["begin", "finish"])
def test_a_kill_at_any_point_leaves_keys_that_serve_and_a_command_that_completes(
    tmp_path: Path, command: str
):
    for calls in range(20):
        folder = tmp_path / str(calls)
        (folder / "registry").mkdir(parents=True)
        create_learner_keys(folder / "keys")
        rotation = KeyRotation(folder / "keys", Registry(folder / "registry"))
        secret = folder / "keys" / "server.secret"
        old = load_curve_keys(secret).public
        new = rotation.begin().encode() if command == "finish" else b""
        ended = run_until_killed(folder, command, calls)
        assert load_curve_keys(secret).public in {old, new}
        if command == "finish":
            if not ended and rotation._notice.exists():
                rotation.finish()
            assert load_curve_keys(secret).public == new
            assert not rotation._notice.exists()
        elif not ended:
            new = rotation.begin().encode()
            rotation.finish()
            assert load_curve_keys(secret).public == new
        if ended:
            return
    raise AssertionError("20 changes of the disk did not complete the command")
