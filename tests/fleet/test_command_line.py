"""The ``fleet`` command, called as the shell calls it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable

import pytest

from fleet.__main__ import main
from fleet.toml_text import toml_text
from tests.episodes import make_episode
from tests.fleet.deliveries import deliver


@pytest.fixture
def fleet_tool(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        """Return exit status, stdout and stderr."""
        monkeypatch.setattr("sys.argv", ["fleet", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_command_line_lists_shows_and_verifies(folder, tmp_path, fleet_tool):
    deliver(folder, "robot-01", lost=(1,))
    run = ("--run", str(folder.root))
    _, listed, _ = fleet_tool("episodes", "list", "--json", *run)
    rows = [json.loads(line) for line in listed.splitlines()]
    assert [row["sequence"] for row in rows] == [2, 3, 4, 5]
    picture = tmp_path / "[red]" / "[/blue].png"  # as markup it would change, or be wrong
    picture.parent.mkdir(parents=True)
    _, shown, _ = fleet_tool(
        "episodes", "show", rows[0]["episode"][:8], "--json", "--out", str(picture), *run
    )
    assert len(json.loads(shown)["steps"]) == 4
    _, shown, _ = fleet_tool(
        "episodes", "show", rows[0]["episode"][:8], "--out", str(picture), *run
    )
    assert f"film strip: {picture}\n" in shown
    assert picture.is_file()
    status, verified, _ = fleet_tool("episodes", "verify", *run)
    assert status == 1
    assert "1 missing" in verified


def test_command_line_looks_where_the_learner_s_own_file_says(folder, tmp_path, fleet_tool):
    deliver(folder, "robot-01")
    text = folder.learner_config.read_text()
    folder.learner_config.write_text(text.replace('"learner/', '"elsewhere/'))
    folder.learner.rename(folder.root / "elsewhere")
    run = ("--run", str(folder.root))
    chosen = make_episode("robot-01", seed=3).episode_id
    assert fleet_tool("episodes", "list", *run)[0] == 0
    picture = str(tmp_path / "x.png")
    assert fleet_tool("episodes", "show", chosen, "--out", picture, *run)[0] == 0
    assert fleet_tool("episodes", "export", "--to", str(tmp_path / "new"), *run)[0] == 0
    assert folder.releases == folder.root / "elsewhere" / "releases"


def test_command_line_reads_every_store_of_several_gateways(folder, tmp_path, fleet_tool):
    deliver(folder, "robot-01")
    table = tomllib.loads(folder.learner_config.read_text())
    second = {"bind": "tcp://127.0.0.1:1", "store": "second"}
    table["gateway"] = [second, table["gateway"]]
    folder.learner_config.write_text(toml_text(table))
    deliver(folder, "robot-02", seed=100)
    run = ("--run", str(folder.root))
    _, listed, _ = fleet_tool("episodes", "list", "--json", *run)
    robots = [json.loads(line)["robot_id"] for line in listed.splitlines()]
    assert sorted(robots) == ["robot-01"] * 5 + ["robot-02"] * 5
    for robot, seed in (("robot-01", 3), ("robot-02", 103)):
        chosen = make_episode(robot, seed=seed).episode_id
        picture = str(tmp_path / "x.png")
        assert fleet_tool("episodes", "show", chosen, "--out", picture, *run)[0] == 0
    to = ("--to", str(tmp_path / "new"))
    status, _, said = fleet_tool("episodes", "export", *to, *run)
    assert status == 2
    assert "has 2 stores; choose with --store: " in said
    store = ("--store", str(folder.store))
    assert fleet_tool("episodes", "export", *to, *store)[0] == 0


def test_command_line_answers_a_mistake_with_one_clear_line_and_status_two(tmp_path, fleet_tool):
    for arguments, says in (
        (("status", "--run", str(tmp_path)), "not a fleet's run folder"),
        (("demo", "--robots", "0"), "robots must be from 1 to 999"),
        (("demo", "--robots", "1000"), "robots must be from 1 to 999"),
        (("demo", "--minutes", "nan"), "minutes above zero and at most 527040"),
        (("demo", "--minutes", "1e6"), "minutes above zero and at most 527040"),
        (("dashboards", "draw", "--prometheus", "x", "--minutes", "1e300"), "at most 5,270,400"),
        (("evaluate", "--run", str(tmp_path)), "not a fleet's run folder"),
        (("revoke", "nobody", "--run", str(tmp_path)), "not a fleet's run folder"),
        (("stop", "arm", "--run", str(tmp_path)), "not a fleet's run folder"),
        (("episodes", "verify", "--store", "a", "--store", "b"), "--store is given twice"),
        (("demo", "--seed", "100001"), "the seed from 0 to 100000"),
        (("demo", "--out", ""), "--out is empty: name a folder"),
        (("demo", "--out", "/dev/null"), "/dev/null: no place for a run: File exists"),
        (("demo", "--out", "/dev/null/x"), "/dev/null/x: no place for a run: Not a directory"),
        (("demo", "--out", "/proc/x"), "/proc/x: no place for a run: No such file"),
        (("stop",), "name one robot, or say --all"),
        (("stop", "arm", "--all"), "name one robot, or say --all"),
    ):
        status, _, said = fleet_tool(*arguments)
        assert status == 2
        assert said.startswith("fleet: ")
        assert said.count("\n") == 1
        assert says in said


@pytest.mark.parametrize(
    ("arguments", "expected", "says"),
    [
        (("list", "--last", "-1"), 2, "--last -1: one episode at least"),
        (("list", "--robot", "nobody"), 2, "knows no robot 'nobody'; it knows robot-01"),
        (("list", "--robot", ""), 2, "knows no robot ''; it knows robot-01"),
        (("show", "", "--out", "x.txt"), 1, "an id that begins with ''; give more of it"),
        (("show", "none", "--out", "x.txt"), 1, "0 episodes have an id that begins with 'none'\n"),
        (("show", "{id}", "--out", "x.txt"), 2, "x.txt: a film strip is a PNG picture; name it x"),
        (("show", "{id}", "--out", "pic"), 2, "pic: a film strip is a PNG picture; name it pic.p"),
        (("show", "{id}", "--out", "/proc/none/x.png"), 2, "/proc/none/x.png: cannot be written"),
    ],
)
def test_command_line_says_in_one_line_what_it_cannot_show(
    folder, fleet_tool, arguments, expected, says
):
    deliver(folder, "robot-01")
    chosen = make_episode("robot-01", seed=3).episode_id
    words = [word.replace("{id}", chosen) for word in arguments]
    status, out, said = fleet_tool("episodes", *words, "--run", str(folder.root))
    assert (status, out) == (expected, "")
    assert said.startswith("fleet: ")
    assert said.count("\n") == 1
    assert says in said


@pytest.mark.parametrize("command", ["list", "show 5", "verify", "export --to new"])
def test_command_line_does_not_try_to_rescue_a_store_that_is_not_there(
    tmp_path, fleet_tool, command
):
    status, _, said = fleet_tool("episodes", *command.split(), "--store", str(tmp_path / "no"))
    assert (status, said) == (1, f"fleet: episode store {tmp_path / 'no'}: there is none yet\n")


def test_command_line_enrols_a_robot_once_and_revokes_it(folder, tmp_path, fleet_tool):
    bundle = tmp_path / "bundle"
    run = ("--run", str(folder.root), "--bundle", str(bundle), "--host", "learner.lab")
    assert fleet_tool("enrol", "arm-1", *run)[0] == 0
    assert "tcp://learner.lab:" in (bundle / "robot-part.toml").read_text()
    assert fleet_tool("enrol", "arm-1", *run)[0] == 2
    assert fleet_tool("revoke", "arm-1", "--run", str(folder.root))[0] == 0
    assert fleet_tool("revoke", "arm-1", "--run", str(folder.root))[0] == 2


def test_command_line_writes_no_bundle_where_a_file_is(folder, tmp_path, fleet_tool):
    file = tmp_path / "afile"
    file.touch()
    enrol = ("enrol", "arm-1", "--run", str(folder.root), "--bundle", str(file))
    status, _, said = fleet_tool(*enrol)
    assert status == 2
    assert said == f"fleet: bundle {file}: it is a file, not a folder; give --bundle\n"


@pytest.mark.parametrize("host", ["bad host:99", "learner:5701", "", "fe80::1", "tcp://lab"])
def test_command_line_takes_no_host_that_is_none(folder, tmp_path, fleet_tool, host):
    bundle = tmp_path / "bundle"
    run = ("--run", str(folder.root), "--bundle", str(bundle), "--host", host)
    status, _, said = fleet_tool("enrol", "arm-1", *run)
    assert status == 2
    assert f"host {host!r}: a name" in said
    assert not bundle.exists()


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "*", "[::]"])
def test_command_line_asks_for_the_host_of_a_learner_that_listens_everywhere(
    folder, tmp_path, fleet_tool, everywhere
):
    toml = folder.learner_config
    toml.write_text(toml.read_text().replace("127.0.0.1", everywhere))
    bundle = tmp_path / "bundle"
    run = ("--run", str(folder.root), "--bundle", str(bundle))
    status, _, said = fleet_tool("enrol", "arm-1", *run)
    assert status == 2
    assert "say with --host under which one the robot reaches it" in said
    assert fleet_tool("enrol", "arm-1", *run, "--host", "[fe80::1]")[0] == 0
    assert "tcp://[fe80::1]:" in (bundle / "robot-part.toml").read_text()
    assert fleet_tool("rotate-key", "begin", "--run", str(folder.root))[0] == 0


def test_command_line_counts_a_record_whose_bytes_were_changed(folder, fleet_tool):
    deliver(folder, "robot-01")
    data = folder.store / "data.mdb"
    content = bytearray(data.read_bytes())
    # The end of the last JPEG picture in the file: inside a record, and not in LMDB's own pages.
    content[content.rindex(b"\xff\xd9") - 5] ^= 0xFF
    data.write_bytes(content)
    status, verified, _ = fleet_tool("episodes", "verify", "--run", str(folder.root))
    assert status == 1
    assert "1 damaged" in verified


def test_command_line_exports_what_is_whole_and_names_what_is_not(folder, tmp_path, fleet_tool):
    deliver(folder, "robot-01")
    data = folder.store / "data.mdb"
    doomed = make_episode("robot-01", seed=1).episode_id.encode()
    data.write_bytes(data.read_bytes().replace(doomed, b"?" * len(doomed)))
    export = ("episodes", "export", "--run", str(folder.root), "--to", str(tmp_path / "new"))
    status, said, _ = fleet_tool(*export)
    assert status == 1
    assert "4 episodes exported to" in said
    assert "1 episode lost" in said
    assert "robot-01, spool" in said
    status, _, complaint = fleet_tool(*export)
    assert status == 2
    assert complaint.endswith("is there already; export into a new folder\n")
    status, verified, _ = fleet_tool("episodes", "verify", "--store", str(tmp_path / "new"))
    assert status == 0
    assert "every one of them whole" in verified


@pytest.mark.parametrize("robot", ["nobody", ""])
def test_command_line_exports_nothing_of_a_robot_that_the_store_does_not_know(
    folder, tmp_path, fleet_tool, robot
):
    deliver(folder, "robot-01")
    to = tmp_path / "new"
    export = ("episodes", "export", "--run", str(folder.root), "--to", str(to), "--robot", robot)
    status, out, said = fleet_tool(*export)
    assert (status, out) == (2, "")
    assert f"holds nothing of a robot {robot!r}; it knows robot-01" in said
    assert not to.exists()


def test_command_line_exports_one_robot_of_a_store_that_is_cut(folder, tmp_path, fleet_tool):
    deliver(folder, "robot-01")
    deliver(folder, "robot-02", seed=100)
    data = folder.store / "data.mdb"
    data.write_bytes(data.read_bytes()[: -5 * 4096])
    for command in ("list", "verify"):
        status, _, complaint = fleet_tool("episodes", command, "--run", str(folder.root))
        assert status == 1
        assert "cut short: save what is whole of it with `fleet episodes export" in complaint
    to = tmp_path / "new"
    export = ("episodes", "export", "--run", str(folder.root), "--to", str(to), "--json")
    status, said, _ = fleet_tool(*export, "--robot", "robot-01")
    assert json.loads(said)["exported"] >= 4
    status, listed, _ = fleet_tool("episodes", "list", "--store", str(to), "--json")
    robots = {json.loads(line)["robot_id"] for line in listed.splitlines()}
    assert robots == {"robot-01"}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("draw --prometheus http://localhost:1 --out {file}", "{file}: cannot be written: File ex"),
        ("write --folder {file}", "cannot be written: Not a directory"),
        ("draw --prometheus http://localhost:1 --minutes nan", "--minutes nan"),
        ("draw --prometheus http://localhost:1 --minutes inf", "--minutes inf"),
        ("draw --prometheus http://localhost:1 --minutes 0", "--minutes 0"),
        ("draw --prometheus http://localhost:1 --until nan", "--until nan"),
    ],
)
def test_command_line_says_in_one_line_why_no_dashboard_is_made(
    tmp_path, fleet_tool, command, says
):
    pytest.importorskip("grafana_foundation_sdk")
    file = tmp_path / "file"
    file.touch()
    status, _, said = fleet_tool("dashboards", *command.format(file=file).split())
    assert status == 2
    assert said.startswith("fleet: ")
    assert said.count("\n") == 1
    assert says.format(file=file) in said
