import socket
import stat
import tomllib
from pathlib import Path

import numpy as np
import pytest

from fleet.camera_description import error_mm, falsify, workspace_points
from fleet.fleet_files import (
    SESSION_SEEDS,
    SIMULATED_ROBOT,
    FleetPlan,
    agent_config,
    camera_record,
    driver_and_arm,
    learner_config,
    prepare_run_folder,
)
from fleet.run_folder import FleetRecord, RunFolder
from fleet.toml_text import edited, laid_over, toml_text
from protocol.errors import ConfigurationError
from protocol.registry import Member, Registry
from protocol.security import load_curve_keys
from robot_agent.calibrating.described_camera import described_map
from robot_agent.config import CameraDescription
from robot_agent.robots.simulated import true_hand_eye_map


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(root=tmp_path / "run")
    prepare_run_folder(made, FleetPlan(robots=3, seed=5))
    return made


def test_made_files_are_accepted_by_agent_and_learner(folder):
    assert folder.robot_names() == ["robot-01", "robot-02", "robot-03"]
    learner = learner_config(folder)
    for name in folder.robot_names():
        config = agent_config(folder, name)
        assert config.name == name
        assert config.learner.episodes == learner.gateway.bind
        assert config.learner.public_key.is_file()


def test_every_robot_is_enrolled_under_its_own_key_and_secrets_are_private(folder):
    registry = Registry(folder.registry)
    for name in folder.robot_names():
        secret = agent_config(folder, name).secret_key
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        member = registry.member_for_key(load_curve_keys(secret).public.decode())
        assert member == Member(name=name, role="robot")
    assert [one.role for one in registry.members()].count("operator") == 1


def test_second_session_keeps_keys_robots_and_ports_and_may_add_robots(folder):
    before = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}
    prepare_run_folder(folder, FleetPlan(robots=4, seed=5))
    assert {path: path.read_bytes() for path in before} == before
    assert folder.robot_names()[-1] == "robot-04"


def test_second_session_keeps_what_a_person_wrote_into_the_files(folder):
    learner, robot = folder.learner_config, folder.robot_config("robot-01")
    learner.write_text(learner.read_text() + '# Grafana\n[gateway.metrics]\nbind = "127.0.0.1:1"\n')
    robot.write_text(robot.read_text() + "# wide\n[safety]\nstall_s = 60\n")
    before = learner.read_text(), agent_config(folder, "robot-01")
    prepare_run_folder(folder, FleetPlan(robots=3, seed=5, session=1))
    assert learner.read_text() == before[0]
    assert "# wide\n" in robot.read_text()
    after = agent_config(folder, "robot-01")
    assert after.safety == before[1].safety
    assert after.robot.options["seed"] == before[1].robot.options["seed"] + SESSION_SEEDS
    assert after.robot.options | {"seed": 0} == before[1].robot.options | {"seed": 0}


def test_where_a_port_is_taken_only_the_ports_change(folder):
    learner = folder.learner_config
    learner.write_text("# by hand\n" + learner.read_text())
    text_before, before = learner.read_text(), learner_config(folder)
    host, port = before.gateway.bind.removeprefix("tcp://").split(":")
    with socket.create_server((host, int(port))):
        prepare_run_folder(folder, FleetPlan(robots=3, seed=5))
    after = learner_config(folder)
    assert after.gateway.bind != before.gateway.bind
    assert agent_config(folder, "robot-02").learner.episodes == after.gateway.bind
    assert agent_config(folder, "robot-02").learner.releases == after.releases.bind
    text = learner.read_text().replace(after.gateway.bind, before.gateway.bind)
    assert text.replace(after.releases.bind, before.releases.bind) == text_before


def test_second_session_lays_new_options_over_what_is_there(folder):
    options = {"seed": 6, "training": {"batch_size": 3}}
    learner = folder.learner_config
    learner.write_text(learner.read_text() + '[gateway.metrics]\nbind = "127.0.0.1:1"\n')
    prepare_run_folder(folder, FleetPlan(robots=3, seed=5, learner_options=options))
    config = learner_config(folder)
    assert (config.seed, config.training.batch_size) == (6, 3)
    assert config.gateway.metrics.bind == "127.0.0.1:1"


def test_a_learner_that_was_set_up_by_hand_is_left_as_it_is(tmp_path):
    folder = RunFolder(root=tmp_path)
    folder.learner_config.write_text("# my lab\n")
    with pytest.raises(ConfigurationError, match="written by hand"):
        prepare_run_folder(folder, FleetPlan(robots=1, seed=0))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["# my lab\n"]


def test_an_arm_by_its_short_name_is_simulated_on_every_robot(tmp_path):
    driver, arm = driver_and_arm("so101")
    assert driver == SIMULATED_ROBOT
    folder = RunFolder(root=tmp_path / "run")
    prepare_run_folder(folder, FleetPlan(robots=2, seed=5, driver=driver, arm=arm))
    assert [agent_config(folder, name).robot.options["arm"] for name in folder.robot_names()] == [
        "so101",
        "so101",
    ]


def test_a_driver_is_taken_as_it_is_and_anything_else_refused_with_what_there_is():
    assert driver_and_arm("a_lab.robots:Ours") == ("a_lab.robots:Ours", "")
    assert driver_and_arm(SIMULATED_ROBOT) == (SIMULATED_ROBOT, "")
    with pytest.raises(ConfigurationError, match=r"so102: expected an arm .*so101, wx200.*:Class"):
        driver_and_arm("so102")


def test_no_two_robots_have_the_same_camera_and_wear(folder):
    options = [agent_config(folder, name).robot.options for name in folder.robot_names()]
    assert len({str(one["camera"]) for one in options}) == 3
    assert len({one["gripper_wear"] for one in options}) == 3


def test_another_seed_gives_other_robots(folder, tmp_path):
    other = RunFolder(root=tmp_path / "other")
    prepare_run_folder(other, FleetPlan(robots=1, seed=6))
    mine, theirs = (agent_config(one, "robot-01").robot.options for one in (folder, other))
    assert mine["camera"] != theirs["camera"]


def test_description_is_falsified_by_up_to_two_centimetres_and_fifteen_percent(folder):
    for name in folder.robot_names():
        known = camera_record(folder, name)
        for true, described in (
            (known.true.position_m, known.described.position_m),
            (known.true.look_at_m, known.described.look_at_m),
        ):
            assert 0.0099 < np.linalg.norm(np.subtract(true, described)) < 0.0201
        scale = known.described.vertical_fov_deg / known.true.vertical_fov_deg
        assert 0.0749 < abs(scale - 1) < 0.1501
        assert agent_config(folder, name).camera_description == known.described


def test_recorded_truth_is_the_simulator_s_own(folder):
    config = agent_config(folder, "robot-01")
    points = workspace_points(config.workspace.x_m, config.workspace.y_m)
    recorded = described_map(camera_record(folder, "robot-01").true)
    truth = true_hand_eye_map(config.robot.options)
    assert error_mm(recorded, truth, points) < 0.1
    falsified = described_map(config.camera_description)
    assert error_mm(falsified, truth, points) > 3


def test_falsifying_is_repeatable():
    camera = CameraDescription(
        position_m=(-0.3, 0.0, 0.4), look_at_m=(0.0, 0.0, 0.0), vertical_fov_deg=31.0
    )
    first, second = (falsify(camera, np.random.default_rng(4)) for _ in range(2))
    assert first == second != camera


def test_wrong_learner_option_is_refused_by_its_file_and_leaves_nothing_behind(tmp_path):
    folder = RunFolder(root=tmp_path / "run")
    plan = FleetPlan(
        robots=1,
        seed=0,
        learner_options={"training": {"batch_sise": 3}},
        learner_options_name="mine.toml",
    )
    with pytest.raises(ConfigurationError, match=r"^mine\.toml: .*did you mean 'batch_size'"):
        prepare_run_folder(folder, plan)
    prepare_run_folder(folder, FleetPlan(robots=1, seed=0))
    before = folder.learner_config.read_text()
    with pytest.raises(ConfigurationError, match=r"^mine\.toml: "):
        prepare_run_folder(folder, plan)
    assert folder.learner_config.read_text() == before


def test_edited_toml_keeps_comments_and_is_written_anew_only_where_it_must_be():
    text = "# top\na = 1  # one\n\n[b.c]\n# inner\na = 2\n"
    assert edited(text, {"a": 1}) == text
    assert edited(text, {"b": {"c": {"a": 3}}}) == text.replace("a = 2", "a = 3")
    for new in ({"d": 4}, {"b": {"e": 5}}):
        assert tomllib.loads(edited(text, new)) == laid_over(tomllib.loads(text), new)
    several_lines = "a = [\n  1,\n]\nb = 2\n"
    assert tomllib.loads(edited(several_lines, {"a": [3]})) == {"a": [3], "b": 2}


def test_toml_text_is_read_back_as_it_was_written():
    table = {
        "name": 'quo"te',
        "flag": True,
        "numbers": [1, 2.5],
        "outer": {"x": -1, "inner": {"path": "a/b"}},
        "empty": {},
    }
    assert tomllib.loads(toml_text(table)) == table


def test_folder_without_a_learner_configuration_is_no_run_folder(tmp_path):
    with pytest.raises(ConfigurationError, match=r"learner\.toml"):
        RunFolder.existing(tmp_path)


def test_fleet_record_survives_being_written_and_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "fleet.json"
    record = FleetRecord(seed=4, restarts={"robot-01": 2})
    record.open_session()
    record.write(path)
    assert FleetRecord.read(path) == record
    path.write_text("{")
    with pytest.raises(ConfigurationError, match="not a fleet record"):
        FleetRecord.read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigurationError, match=r"fleet\.json: cannot be read: Is a directory"):
        FleetRecord.read(path)


@pytest.mark.parametrize("broken", ["{", '{"true": 1}', ""])
def test_a_damaged_camera_record_is_refused_by_its_name(folder, broken):
    path = folder.robots / "robot-02" / "camera.json"
    path.write_text(broken)
    with pytest.raises(ConfigurationError, match=r"robot-02/camera\.json: not a camera's record"):
        camera_record(folder, "robot-02")
    with pytest.raises(ConfigurationError, match=r"robot-02/camera\.json: not a camera's record"):
        prepare_run_folder(folder, FleetPlan(robots=3, seed=5))
