"""What the learner says of its keys, ports and stores before Ray is there."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.toml_text import toml_text
from learner import own_parts
from learner.config import LearnerConfig
from learner.own_parts import check_own_parts
from learner.store.writer_lock import WriterLock
from protocol.configuration import from_table
from protocol.errors import ConfigurationError
from tests.delivery_site import ROOT
from tests.free_ports import free_port
from tests.learner_keys import create_learner_keys

Table = dict[str, Any]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Return a learner.toml that is right, but for the Ray that it joins: nobody answers there."""
    create_learner_keys(tmp_path / "keys")
    (tmp_path / "store").mkdir()
    return {
        "run_folder": "run",
        "keys": {
            "server_secret": "keys/server.secret",
            "release_secret": "keys/release.secret",
            "registry": "registry",
        },
        "gateway": {
            "bind": f"tcp://127.0.0.1:{free_port()}",
            "store": "store",
            "metrics": {"bind": f"localhost:{free_port()}"},
        },
        "releases": {"bind": f"tcp://*:{free_port()}"},
        "ray": {"address": f"127.0.0.1:{free_port()}"},
    }


def config_of(table: Table, folder: Path) -> LearnerConfig:
    return from_table(table, LearnerConfig, name="learner.toml", folder=folder)


def run_learner(table: Table, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "learner.toml"
    path.write_text(toml_text(table))
    command = [sys.executable, "-m", "learner", "--config", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def bind_of(table: Table, part: str) -> str:
    inner = table["gateway"]["metrics"] if part == "metrics" else table[part]
    return str(inner["bind"])


@contextmanager
def listening_at(bind: str) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", int(bind.rpartition(":")[2]))):
        yield


def test_a_port_in_use_is_said_in_one_line_before_ray_is_joined(tmp_path: Path, table: Table):
    bind = bind_of(table, "gateway")
    with listening_at(bind):
        done = run_learner(table, tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"{bind}: the port is in use" in done.stderr


@pytest.mark.parametrize("part", ["metrics", "releases"])
def test_every_port_is_looked_at(
    tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch, part: str
):
    monkeypatch.setattr(own_parts, "ENDING_S", 0.0)
    bind = bind_of(table, part)
    with (
        listening_at(bind),
        pytest.raises(ConfigurationError, match=rf"{re.escape(bind)}: the port is in use"),
    ):
        check_own_parts(config_of(table, tmp_path))


def test_a_store_that_another_learner_writes_to_is_said_in_one_line_before_ray_is_joined(
    tmp_path: Path, table: Table
):
    lock = WriterLock(tmp_path / "store")
    done = run_learner(table, tmp_path)
    lock.release()
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"episode store {tmp_path}/store: another process writes to it" in done.stderr


def test_a_learner_with_a_ray_of_its_own_looks_at_the_parts_of_every_place(
    tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(own_parts, "ENDING_S", 0.0)
    table["gateway"]["place"] = table["releases"]["place"] = "elsewhere"
    with listening_at(table["releases"]["bind"]):
        check_own_parts(config_of(table, tmp_path))
        table["ray"]["address"] = ""
        with pytest.raises(ConfigurationError, match="the port is in use"):
            check_own_parts(config_of(table, tmp_path))


def test_an_address_of_another_machine_is_refused(
    tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(own_parts, "ENDING_S", 0.0)
    table["gateway"]["bind"] = "tcp://192.0.2.1:5701"
    with pytest.raises(ConfigurationError, match=r"tcp://192\.0\.2\.1:5701: cannot listen here"):
        check_own_parts(config_of(table, tmp_path))


def test_ports_and_a_store_of_a_learner_that_is_ending_are_waited_for(
    tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(own_parts, "ENDING_S", 60.0)
    lock = WriterLock(tmp_path / "store")
    with listening_at(table["gateway"]["bind"]):
        waiting = threading.Thread(target=check_own_parts, args=[config_of(table, tmp_path)])
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    lock.release()
    waiting.join(60.0)
    assert not waiting.is_alive()


def test_looking_makes_nothing_and_keeps_nothing(tmp_path: Path, table: Table):
    (tmp_path / "store").rmdir()
    config = config_of(table, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for _ in range(2):
        check_own_parts(config)
    assert sorted(tmp_path.rglob("*")) == before
    for part in ("gateway", "metrics", "releases"):
        with listening_at(bind_of(table, part)):
            pass
