"""An agent that knows docs/protocol.md and no line of ours, against real processes."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import msgpack
import pytest

from fleet.child_process import ChildProcess
from fleet.enrolment import OPERATOR_SECRET, LearnerAddress, enrol_robot, ensure_learner_keys
from fleet.key_rotation import KeyRotation
from fleet.operator_client import OperatorClient
from fleet.toml_text import toml_text
from learner.store.episode_store import EpisodeStore
from protocol.key_files import PUBLIC_MODE, write_over
from protocol.messages import FromReleaseServer, ReleaseList, ReleasePin
from protocol.registry import Registry
from protocol.security import load_curve_keys, load_release_secret
from tests.chaos.independent_reader import read_store
from tests.delivery_site import STORE_BYTES
from tests.free_ports import free_port
from tests.protocol.older_versions import complaints
from tests.releases import make_release
from tests.waiting import PATIENCE_S, wait_until

AGENT = Path(__file__).parent / "a_strangers_agent"
NAME = "stranger"
MAY_IMPORT = {"cryptography", "msgpack", "zmq"} | sys.stdlib_module_names

RELEASE_BYTES = 100_000
"""A few hundred of the stranger's chunks, so that a crash falls between two of them."""

Event = dict[str, Any]


class Learner:
    """A learner's folder, and the two processes that robots see of it."""

    def __init__(self, folder: Path) -> None:
        self.keys = folder / "keys"
        self.registry = Registry(folder / "registry")
        self.store = folder / "episodes"
        self.bundle = folder / "bundle"
        self._releases = folder / "releases"
        self._endpoints = [f"tcp://127.0.0.1:{free_port()}" for _ in range(2)]
        self._config = folder / "learner.toml"
        self.gateway = self._process("tests.chaos.gateway_alone", folder)
        self.release_server = self._process("tests.integration.release_server_alone", folder)

    def prepare(self) -> None:
        """Make keys, registry, configuration, two releases and the stranger's bundle."""
        ensure_learner_keys(self.keys, self.registry)
        episodes, releases = self._endpoints
        table = {
            "run_folder": "run",
            "keys": {
                "server_secret": "keys/server.secret",
                "release_secret": "keys/release.secret",
                "registry": "registry",
            },
            "gateway": {"bind": episodes, "store": "episodes", "max_store_bytes": STORE_BYTES},
            "releases": {"bind": releases, "folder": "releases"},
        }
        self._config.write_text(toml_text(table))
        signing_key = load_release_secret(self.keys / "release.secret")
        for version in (1, 2):
            data = make_release(version, key=signing_key, padding_bytes=version * RELEASE_BYTES)
            file = self._releases / f"release-{version:010d}.gfrel"
            write_over(file, data, mode=PUBLIC_MODE)
        address = LearnerAddress(keys=self.keys, episodes=episodes, releases=releases)
        enrol_robot(self.registry, NAME, self.bundle, address)

    def pin(self, version: int) -> None:
        """Have the whole fleet use a release, as an operator does."""
        keys = load_curve_keys(self.keys / OPERATOR_SECRET)
        public = load_curve_keys(self.keys / "server.secret").public
        with OperatorClient(self._endpoints[1], keys, public, FromReleaseServer) as client:
            client.ask(ReleasePin(version=version), ReleaseList, 10.0)

    def ledger(self) -> tuple[int, int, int, int]:
        """Return stored, tombstoned, missing and conflicting sequences of the stranger."""
        store = EpisodeStore(self.store, STORE_BYTES, readonly=True)
        found = store.ledger(NAME)
        store.close()
        return found.stored, found.tombstoned, found.missing, found.conflicts

    def _process(self, module: str, folder: Path) -> ChildProcess:
        arguments = ["-m", module, "--config", str(self._config)]
        return ChildProcess(module, arguments, log=folder / f"{module}.log")


class Stranger:
    """The agent as a process, and everything it has told so far."""

    def __init__(self, bundle: Path, state: Path, version: int) -> None:
        command = [sys.executable, "-I", str(AGENT), str(bundle), str(state)]
        self._events = state / "events"
        with self._events.open("wb") as events:
            self._process = subprocess.Popen(
                [*command, "--wire-version", str(version)],
                cwd=state,
                stdin=subprocess.PIPE,
                stdout=events,
            )

    def does(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        self._process.stdin.flush()

    def events(self, kind: str) -> list[Event]:
        events = []
        for line in self._events.read_text().splitlines():
            with suppress(json.JSONDecodeError):  # the last one is only being written
                events.append(json.loads(line))
        return [event for event in events if event["event"] == kind]

    def headers(self, kind: str) -> list[Event]:
        """Return the messages of one type that the stranger was sent."""
        messages = [msgpack.unpackb(bytes.fromhex(one["hex"])) for one in self.events("header")]
        return [message for message in messages if message["type"] == kind]

    def acked(self) -> set[int]:
        return {number for event in self.events("acked") for number in event["sequences"]}

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        wait_until(lambda: condition() or self._process.poll() is not None, what, 30.0)
        assert self._process.poll() is None, self._events.read_text()[-3000:]

    def wait_until_acked(self, *sequences: int) -> None:
        self.wait_for(f"{sequences} are acked", lambda: set(sequences) <= self.acked())

    def wait_for_release(self, version: int) -> None:
        self.wait_for(
            f"release {version} is in use",
            lambda: [event["version"] for event in self.events("release")][-1:] == [version],
        )

    def leave(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(PATIENCE_S) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def learner(tmp_path: Path) -> Iterator[Learner]:
    (tmp_path / "registry").mkdir()
    learner = Learner(tmp_path)
    learner.prepare()
    learner.gateway.start()
    learner.release_server.start()
    yield learner
    learner.gateway.kill()
    learner.release_server.kill()


@pytest.fixture
def join(learner: Learner, tmp_path: Path) -> Iterator[Callable[[int], Stranger]]:
    state = tmp_path / "state"
    state.mkdir()
    strangers: list[Stranger] = []

    def start(version: int) -> Stranger:
        strangers.append(Stranger(learner.bundle, state, version))
        return strangers[-1]

    yield start
    for stranger in strangers:
        stranger.kill()


def fetch_through_a_crash(stranger: Stranger, learner: Learner) -> None:
    """Release 2 in chunks, each of them once, although its server dies in between."""
    stranger.wait_for("a part is there", lambda: len(stranger.headers("chunk")) > 30)
    learner.release_server.kill()
    assert stranger.events("release") == []
    learner.release_server.start()
    stranger.wait_for_release(2)
    offsets = [chunk["offset"] for chunk in stranger.headers("chunk")]
    assert offsets == sorted(set(offsets))


def deliver_through_a_crash(stranger: Stranger, learner: Learner) -> None:
    """Three episodes and a tombstone: before, under way in, during and after a crash."""
    stranger.does("attempt")
    stranger.wait_until_acked(1)
    os.kill(learner.gateway.pid, signal.SIGSTOP)
    stranger.does("attempt")
    stranger.wait_for("the second is sent", lambda: len(stranger.events("sent")) == 2)
    learner.gateway.kill()
    stranger.does("attempt")
    stranger.does("lose")
    stranger.wait_for("the last is lost", lambda: bool(stranger.events("lost")))
    assert stranger.acked() == {1}
    learner.gateway.start()
    stranger.wait_until_acked(2, 3, 4)


def assert_stored_as_spooled(stranger: Stranger, learner: Learner) -> None:
    (ready,) = stranger.events("ready")
    spool_id = bytes.fromhex(ready["spool_id"])
    expected = {
        (NAME, spool_id, event["sequence"]): event["digest"] for event in stranger.events("spooled")
    }
    stored = read_store(learner.store)
    assert len(stored) == len(expected)
    assert {one.key: one.digest.hex() for one in stored} == expected
    assert all(one.is_sound for one in stored)
    assert learner.ledger() == (3, 1, 0, 0)


def test_the_agent_imports_nothing_of_ours():
    files = list(AGENT.glob("**/*.py"))
    imported = set()
    for node in chain.from_iterable(ast.walk(ast.parse(file.read_text())) for file in files):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).split(".")[0])
    assert "zmq" in imported
    assert imported <= MAY_IMPORT | {file.stem for file in files}


def test_a_stranger_of_version_1_is_served_as_version_1_was(
    learner: Learner, join: Callable[[int], Stranger]
):
    stranger = join(1)
    KeyRotation(learner.keys, learner.registry).begin()
    fetch_through_a_crash(stranger, learner)
    learner.pin(1)
    deliver_through_a_crash(stranger, learner)
    assert {event["wire_version"] for event in stranger.events("welcome")} == {1}
    assert [event["version"] for event in stranger.events("release")] == [2]
    stranger.leave()

    assert_stored_as_spooled(stranger, learner)
    assert heard_what_is_new(stranger) == []


def test_a_stranger_of_version_2_follows_orders_and_a_change_of_the_learners_key(
    learner: Learner, join: Callable[[int], Stranger]
):
    stranger = join(2)
    fetch_through_a_crash(stranger, learner)
    learner.pin(1)
    stranger.wait_for_release(1)
    deliver_through_a_crash(stranger, learner)
    assert {event["wire_version"] for event in stranger.events("welcome")} == {2}

    rotation = KeyRotation(learner.keys, learner.registry)
    rotation.begin()
    stranger.wait_for("the robot has the next key", lambda: rotation.status().missing == [])
    before = len(stranger.events("welcome"))
    rotation.finish()
    stranger.wait_for("a welcome", lambda: len(stranger.events("welcome")) > before)
    stranger.leave()

    assert_stored_as_spooled(stranger, learner)
    assert heard_what_is_new(stranger) != []


def heard_what_is_new(stranger: Stranger) -> list[str]:
    """Return why version 1 would have refused something that the stranger was sent."""
    headers = [bytes.fromhex(event["hex"]) for event in stranger.events("header")]
    assert headers
    sides = ("FromGateway", "FromReleaseServer")
    each = [[complaints(header, side, 1) for side in sides] for header in headers]
    return [str(both) for both in each if all(both)]
