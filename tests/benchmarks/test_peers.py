from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protocol.codec import decode_episode
from protocol.jpeg import encode_jpeg
from tests.benchmarks.episodes import EPISODES, PICTURES, SIDE_PX, benchmark_episode, write_all
from tests.benchmarks.peers import contract
from tests.benchmarks.peers.environments import EnvironmentFailedError, python_for
from tests.benchmarks.peers.gateway import records_of
from tests.benchmarks.peers.measurement import SystemFailedError, measure
from tests.benchmarks.peers.systems import BARE_COMMIT, BARE_CURVE, OURS, OURS_TWICE, System

NO_PEERS = Path("no peer is installed by a test")


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    write_all(folder, agents=2)
    return folder


def load(episodes: Path, kind: contract.Kind = "jpeg") -> contract.Load:
    return contract.Load(
        kind=kind, agents=2, window=8, warm_up_s=0.1, seconds=0.4, episodes=str(episodes)
    )


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    written = [b"", b"one", bytes(100_000)]

    contract.write_episodes(tmp_path / "some", written)

    assert contract.read_episodes(tmp_path / "some") == written


def test_jpeg_and_raw_hold_the_same_pictures_for_every_agent(episodes: Path) -> None:
    raw = contract.read_episodes(contract.episodes_file(episodes, "raw", 1))
    assert len(raw) == EPISODES

    for agent in range(2):
        records = contract.read_episodes(contract.episodes_file(episodes, "jpeg", agent))
        for seed, (record, pixels) in enumerate(zip(records, raw, strict=True)):
            decoded = decode_episode(record)
            images = np.frombuffer(pixels, np.uint8).reshape(PICTURES, SIDE_PX, SIDE_PX, 3)
            original = benchmark_episode(contract.agent_name(agent), seed)
            assert decoded.robot_id == contract.agent_name(agent)
            assert np.array_equal(images[0], original.first_image)
            assert np.array_equal(images[-1], original.steps[-1].observation.image)
            assert encode_jpeg(images[2]) in record


def test_what_our_agent_encodes_from_pixels_is_the_jpeg_record(episodes: Path) -> None:
    records = contract.read_episodes(contract.episodes_file(episodes, "jpeg", 1))

    encode_next = records_of("agent-1", "raw", [])

    assert [encode_next()[0] for _ in records] == records


@pytest.mark.parametrize(
    "system", [OURS, OURS_TWICE, BARE_CURVE, BARE_COMMIT], ids=lambda one: one.name
)
def test_a_system_of_our_own_acks_what_two_agents_deliver(system: System, episodes: Path) -> None:
    count = measure(system, load(episodes), NO_PEERS)

    assert count.episodes > 0
    assert count.server_cpu_s > 0


def test_our_gateway_takes_episodes_whose_pixels_the_agent_encodes(episodes: Path) -> None:
    assert measure(OURS, load(episodes, "raw"), NO_PEERS).episodes > 0


def test_a_system_that_cannot_start_is_reported_with_what_it_wrote(episodes: Path) -> None:
    broken = System(name="broken", module="no_such_adapter", guarantee="none")

    with pytest.raises(SystemFailedError, match=r"broken, serve ended(.|\n)*no_such_adapter"):
        measure(broken, load(episodes), NO_PEERS)


def test_a_peer_that_cannot_be_installed_is_reported_with_what_the_installer_says(
    tmp_path: Path,
) -> None:
    pins = tmp_path / "lost.txt"
    pins.write_text("--no-index\nno-such-peer==1.0\n")

    with pytest.raises(
        EnvironmentFailedError, match=r"lost cannot be installed(.|\n)*no-such-peer"
    ):
        python_for(str(pins), tmp_path / "environments")
    assert not (tmp_path / "environments" / "lost" / "installed").exists()
