"""``fleet release``, called as the shell calls it, against a real release server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from fleet.__main__ import main
from fleet.operator import release_connection
from fleet.releases import ReleaseClient, in_words
from fleet.run_folder import RunFolder
from learner.config import LearnerConfig
from learner.ingestion.gateway import Gateway
from learner.releases.server import ReleaseServer
from learner.store.episode_store import EpisodeStore
from learner.store.stored_episode import Arrival
from protocol.codec import digest
from protocol.configuration import load_toml
from protocol.errors import AuthenticationError
from protocol.messages import ReleaseList
from protocol.registry import Registry
from protocol.security import load_curve_keys, load_release_secret
from robot_agent.config import AgentConfig
from tests.fleet.deliveries import deliver
from tests.releases import make_release

Tool = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fleet_tool(folder: RunFolder, monkeypatch, capsys) -> Tool:
    def run(*arguments: str) -> tuple[int, str, str]:
        """Return exit status, stdout and stderr."""
        monkeypatch.setattr("sys.argv", ["fleet", *arguments, "--run", str(folder.root)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def server(folder: RunFolder) -> Iterator[ReleaseServer]:
    """Return the folder's release server, with three releases."""
    config = load_toml(folder.learner_config, LearnerConfig)
    signing_key = load_release_secret(config.keys.release_secret)
    server = ReleaseServer(
        endpoint=config.releases.bind,
        server_secret=config.keys.server_secret,
        registry=Registry(config.keys.registry),
        folder=config.releases.folder,
        keep=config.releases.keep,
        signing_key=signing_key,
    )
    server.start()
    for version in (1, 2, 3):
        metrics = {"step": 100.0 * version, "held_out_loss": 0.25}
        server.publish(make_release(version, key=signing_key, metrics=metrics))
    yield server
    server.close()


def pins(fleet_tool: Tool) -> dict[str, int]:
    status, out, _ = fleet_tool("release", "list", "--json")
    assert status == 0
    found: dict[str, int] = json.loads(out)["pinned"]
    return found


def test_releases_are_listed_with_what_was_held_back(server: ReleaseServer, fleet_tool: Tool):
    server.catalogue.withhold("weights of step 400 are held back: worse by 0.1")
    status, out, _ = fleet_tool("release", "list")
    assert status == 0
    rows = [line.split() for line in out.splitlines()[1:4]]
    # From the right: the notes beside the version are more or fewer words.
    assert [(row[0], row[-4], row[-5]) for row in rows] == [
        ("3", "300", "0.2500"),
        ("2", "200", "0.2500"),
        ("1", "100", "0.2500"),
    ]
    assert rows[0][1] == "newest"
    assert "held back: weights of step 400 are held back: worse by 0.1" in out


def test_pin_rollback_and_unpin_change_what_the_list_says(server: ReleaseServer, fleet_tool: Tool):
    status, out, _ = fleet_tool("release", "rollback")
    assert (status, out) == (0, "the whole fleet is pinned to release 2\n")
    assert fleet_tool("release", "rollback", "--robot", "robot-01")[0] == 0
    assert pins(fleet_tool) == {"": 2, "robot-01": 1}
    assert "robot-01 pinned" in fleet_tool("release", "list")[1]

    _, out, _ = fleet_tool("release", "rollback")
    assert out.splitlines()[1:] == ["robot-01 stays pinned to release 1"]

    _, out, _ = fleet_tool("release", "unpin")
    assert "the whole fleet is no longer pinned: release 3 is to be used" in out
    assert "robot-01 stays pinned to release 1" in out
    _, out, _ = fleet_tool("release", "pin", "2", "--robot", "robot-01")
    assert out == "robot-01 is pinned to release 2\n"
    fleet_tool("release", "unpin", "--robot", "robot-01")
    assert pins(fleet_tool) == {}
    assert "robot-01 is not pinned" in fleet_tool("release", "unpin", "--robot", "robot-01")[1]


@pytest.mark.parametrize(
    ("arguments", "expected", "says"),
    [
        (("pin", "9"), 1, "release 9 is not on the learner's disk, or damaged; there: 3, 2, 1"),
        (("pin", "1", "--robot", "nobody"), 1, "'nobody' is not an enrolled robot; enrolled: rob"),
        (("pin", "0"), 2, "releases count from 1"),
        (("unpin", "--robot", "nobody"), 1, "not an enrolled robot"),
    ],
)
def test_a_mistake_gets_one_clear_line_and_changes_nothing(
    server: ReleaseServer, fleet_tool: Tool, arguments: tuple[str, ...], expected: int, says: str
):
    status, out, said = fleet_tool("release", *arguments)
    assert (status, out) == (expected, "")
    assert said.startswith("fleet: ")
    assert said.count("\n") == 1
    assert says in said
    assert pins(fleet_tool) == {}


def test_there_is_nothing_to_roll_back_to_before_the_first_release_kept(
    server: ReleaseServer, fleet_tool: Tool
):
    fleet_tool("release", "pin", "1")
    status, _, said = fleet_tool("release", "rollback")
    assert status == 2
    assert "is on release 1, and the learner keeps none before it" in said


def test_a_learner_that_does_not_answer_is_named(fleet_tool: Tool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fleet.operator_client.ANSWER_WITHIN_S", 0.3)
    status, _, said = fleet_tool("release", "list")
    assert status == 1
    assert "did not answer in 0.3 s; does it run" in said


def test_a_robots_key_may_not_list_nor_pin(server: ReleaseServer, folder: RunFolder):
    endpoint, _, server_public = release_connection(folder)
    secret = load_toml(folder.robot_config("robot-01"), AgentConfig).secret_key
    with (
        ReleaseClient(endpoint, load_curve_keys(secret), server_public) as client,
        pytest.raises(AuthenticationError, match="the key of robot-01 is a robot's"),
    ):
        client.pin(1)
    assert server.catalogue.pins() == {}


def test_the_status_joins_what_the_gateway_and_the_release_server_know(
    server: ReleaseServer,
    folder: RunFolder,
    fleet_tool: Tool,
    monkeypatch: pytest.MonkeyPatch,
):
    config = load_toml(folder.learner_config, LearnerConfig)
    gateway = Gateway(config.gateway, config.keys.server_secret, config.keys.registry)
    gateway.start()
    try:
        server.catalogue.pin("robot-02", 2)
        robots = json.loads(fleet_tool("status", "--json")[1])["robots"]
        assert [(each["assigned_release"], each["pinned"]) for each in robots] == [
            (3, False),
            (2, True),
        ]
        table = fleet_tool("status")[1]
        assert "none, behind 3" in table
        assert "none, pinned to 2" in table

        server.close()
        monkeypatch.setattr("fleet.operator_client.ANSWER_WITHIN_S", 2.0)
        assert "the release server does not answer" in fleet_tool("status")[1]
    finally:
        gateway.stop()


@pytest.mark.parametrize(
    ("version", "pinned", "words"),
    [
        (5, {}, "5 current"),
        (4, {}, "4, behind 5"),
        (0, {}, "none, behind 5"),
        (3, {"": 3}, "3 pinned"),
        (5, {"": 3}, "5, pinned to 3"),
        (3, {"robot-01": 2, "": 3}, "3, pinned to 2"),
        (5, {"robot-02": 2}, "5 current"),
    ],
)
def test_the_status_says_whether_a_robot_is_behind_or_pinned(
    version: int, pinned: dict[str, int], words: str
):
    listing = ReleaseList(current=5, releases=[], pinned=pinned, withheld=[])
    assert in_words(version, "robot-01", listing) == words


def test_before_the_first_release_no_robot_has_the_current_one():
    listing = ReleaseList(current=0, releases=[], pinned={}, withheld=[])
    assert in_words(0, "robot-01", listing) == "none"


def test_the_json_has_the_same_keys_whether_or_not_there_is_a_warning(
    server: ReleaseServer, fleet_tool: Tool
):
    assert json.loads(fleet_tool("release", "list", "--json")[1])["warnings"] == []


def test_the_status_names_who_is_shut_out_and_everything_that_is_wrong(
    server: ReleaseServer,
    folder: RunFolder,
    fleet_tool: Tool,
):
    config = load_toml(folder.learner_config, LearnerConfig)
    deliver(folder, "robot-01")
    with closing(EpisodeStore(folder.store, 2**28)) as store:
        ((_, first),) = store.tail(0, 1)
        record = first.record + b"!"
        store.commit([Arrival(key=first.key, digest=digest(record), record=record, letter="s")])
    gateway = Gateway(config.gateway, config.keys.server_secret, config.keys.registry)
    gateway.start()
    try:
        Registry(config.keys.registry).revoke("robot-01")
        server.catalogue.pin("robot-02", 1)
        (config.releases.folder / "release-0000000001.gfrel").unlink()
        out = fleet_tool("status")[1]
        rows = {line.split()[0]: line for line in out.splitlines() if line}
        assert "shut out" in rows["robot-01"]
        assert "never" in rows["robot-02"]
        assert "gone" not in rows["robot-02"]
        assert "critical: robot-01: 1 episode came under the sequence of others" in out
        assert (
            "warning: learner: robot-02 is pinned to release 1, which is missing or damaged" in out
        )

        told = json.loads(fleet_tool("status", "--json")[1])
        assert told["warnings"] == []
        assert "robot-02 is pinned to release 1" in told["release_warnings"][0]
        assert [each["enrolled"] for each in told["robots"]] == [False, True]
    finally:
        gateway.stop()
