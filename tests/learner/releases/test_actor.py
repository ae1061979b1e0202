"""The release server as a Ray actor: it comes back by itself, with its port and its release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray

from learner.config import KeysConfig, LearnerConfig, ReleasesConfig
from learner.releases.actor import ReleaseServerHandle
from protocol.errors import RejectedReleaseError
from protocol.security import (
    create_curve_keys,
    create_release_keys,
    load_curve_keys,
    load_release_secret,
)
from robot_agent.learner_keys import LearnerKeys
from robot_agent.releases.receiver import ReleaseReceiver
from tests.chaos.learner_processes import RELEASES, LearnerProcesses
from tests.free_ports import free_port
from tests.releases import CALIBRATION, SIZE_PX, enrol, make_curve_keys, make_release
from tests.waiting import wait_until


@pytest.fixture
def config(tmp_path: Path) -> Iterator[LearnerConfig]:
    create_curve_keys(tmp_path / "server.secret", tmp_path / "server.public")
    create_release_keys(tmp_path / "release.secret", tmp_path / "release.public")
    config = LearnerConfig(
        run_folder=tmp_path,
        keys=KeysConfig(
            server_secret=tmp_path / "server.secret",
            release_secret=tmp_path / "release.secret",
            registry=tmp_path / "registry",
        ),
        releases=ReleasesConfig(bind=f"tcp://127.0.0.1:{free_port()}", folder=tmp_path / "r"),
    )
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=100_000_000,
        # Else it probes a public address to find its own.
        _node_ip_address="127.0.0.1",
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}},
    )
    yield config
    ray.shutdown()


def test_a_killed_release_server_comes_back_with_its_release_and_its_robots(
    config: LearnerConfig, tmp_path: Path
):
    signing_key = load_release_secret(config.keys.release_secret)
    robot_keys = make_curve_keys()
    enrol(config.keys.registry, "robot-1", robot_keys)
    handle = ReleaseServerHandle(config)
    assert ray.get(handle.ask_endpoint()) == config.releases.bind
    handle.publish(make_release(1, key=signing_key))
    with pytest.raises(RejectedReleaseError, match="not newer"):
        handle.publish(make_release(1, key=signing_key, bias=0.9))
    receiver = ReleaseReceiver(
        endpoint=config.releases.bind,
        keys=robot_keys,
        learner_keys=LearnerKeys(
            load_curve_keys(config.keys.server_secret).public,
            verify_key=signing_key.public_key(),
            state_folder=tmp_path / "state",
        ),
        verify_key=signing_key.public_key(),
        state_folder=tmp_path / "state",
        robot_id="robot-1",
        calibration=CALIBRATION,
        height_px=SIZE_PX,
        width_px=SIZE_PX,
        subscribe_every_s=0.1,
    )
    receiver.start()
    wait_until(lambda: receiver.version == 1, "release 1 is ready")

    assert handle.look_at_pins(timeout_s=60.0) == {}

    processes = LearnerProcesses(driver=psutil.Process())
    processes.look()
    processes.parts()[RELEASES].kill()
    second = make_release(2, key=signing_key)
    handle.publish(second)

    wait_until(lambda: receiver.version == 2, "release 2 is ready")
    assert handle.newest() == second
    assert handle.highest_version() == 2
    receiver.close()
    handle.close()
