"""The install script, below a folder; the footprint of what it installs."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from fleet.enrolment import LearnerAddress, enrol_robot
from protocol.configuration import load_toml
from protocol.registry import Registry
from robot_agent.config import AgentConfig
from robot_agent.robots.so101 import SO101Options
from tests.learner_keys import create_learner_keys

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy/robot/install.sh"
RULES = ROOT / "deploy/robot/70-graspfleet.rules"
MOST_BYTES = 400_000_000
ARM_PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in range(17, 37)]
"""Raspberry Pi OS of Debian 12 has glibc 2.36."""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    keys = tmp_path / "keys"
    create_learner_keys(keys)
    (tmp_path / "registry").mkdir()
    address = LearnerAddress(keys=keys, episodes="tcp://lab:5701", releases="tcp://lab:5702")
    enrol_robot(Registry(tmp_path / "registry"), "arm-1", tmp_path / "arm-1-bundle", address)
    return tmp_path / "arm-1-bundle"


@pytest.fixture
def interpreter(tmp_path: Path) -> Path:
    """Return a Python whose virtual environments are those of this one, so that pip has no work."""
    path = tmp_path / "python3"
    path.write_text(f"""#!/bin/sh
case "$*" in
"-m venv "*)
    mkdir -p "$3/bin"
    printf '#!/bin/sh\\necho "$@" >>"{tmp_path}/pip.log"\\n' >"$3/bin/python"
    printf '#!/bin/sh\\n' >"$3/bin/robot-agent"
    chmod +x "$3/bin/python" "$3/bin/robot-agent" ;;
*) exec {sys.executable} "$@" ;;
esac
""")
    path.chmod(0o755)
    return path


def test_a_robot_is_installed_with_a_configuration_that_its_agent_can_read(
    tmp_path: Path, bundle: Path, interpreter: Path
):
    done = install(tmp_path, interpreter, "--robot", "arm-1", "--bundle", str(bundle))
    assert (done.returncode, done.stderr) == (0, "")
    place = tmp_path / "root/etc/graspfleet/arm-1"
    config = load_toml(place / "robot.toml", AgentConfig)
    assert config.name == "arm-1"
    assert config.state_folder == Path("/var/lib/graspfleet/arm-1")
    assert config.robot.driver == "robot_agent.robots.so101:SO101"
    assert stat.S_IMODE((place / "robot.secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((place / "robot.toml").stat().st_mode) == 0o644
    assert "[hardware]" in (tmp_path / "pip.log").read_text()


def test_what_it_puts_in_place_is_what_the_service_asks_for(tmp_path: Path, interpreter: Path):
    assert install(tmp_path, interpreter).returncode == 0
    root = tmp_path / "root"
    unit = (root / "etc/systemd/system/graspfleet-agent@.service").read_text()
    (program,) = re.findall(r"^ExecStart=(\S+)", unit, re.MULTILINE)
    assert os.access(f"{root}{program}", os.X_OK)
    assert program in (root / "usr/local/bin/graspfleet-robot").read_text()
    assert (root / "etc/udev/rules.d" / RULES.name).read_bytes() == RULES.read_bytes()


def test_run_again_it_keeps_what_a_person_changed(tmp_path: Path, bundle: Path, interpreter: Path):
    arguments = ("--robot", "arm-1", "--bundle", str(bundle))
    install(tmp_path, interpreter, *arguments)
    toml = tmp_path / "root/etc/graspfleet/arm-1/robot.toml"
    toml.write_text(toml.read_text().replace("y_m = 0.20,", "y_m = 0.19,"))
    before = snapshot(tmp_path / "root")
    again = install(tmp_path, interpreter, *arguments)
    assert again.returncode == 0
    assert "robot.toml is kept" in again.stdout
    assert snapshot(tmp_path / "root") == before


def test_a_notice_of_an_earlier_bundle_is_gone_and_that_of_the_new_one_is_there(
    tmp_path: Path, bundle: Path, interpreter: Path
):
    arguments = ("--robot", "arm-1", "--bundle", str(bundle))
    place = tmp_path / "root/etc/graspfleet/arm-1"
    notice = bundle / "server-next.notice"
    notice.write_text("of keys that were changed")
    install(tmp_path, interpreter, *arguments)
    assert (place / notice.name).read_text() == "of keys that were changed"
    notice.unlink()
    install(tmp_path, interpreter, *arguments)
    assert not (place / notice.name).exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--robot", "arm-1"], "--robot needs --bundle FOLDER"),
        (["--bundle", "."], "--bundle needs --robot NAME"),
        (["--robot", "arm 1", "--bundle", "."], "letters, digits"),
        (["--arm", "octopus"], "there is no deploy/robot/octopus.toml"),
        (["--fast"], "unknown argument --fast"),
        (["--robot"], "--robot needs a value"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_is_done(
    tmp_path: Path, interpreter: Path, arguments: list[str], said: str
):
    done = install(tmp_path, interpreter, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "root").exists()


def test_the_bundle_of_another_robot_is_refused(tmp_path: Path, bundle: Path, interpreter: Path):
    done = install(tmp_path, interpreter, "--robot", "arm-2", "--bundle", str(bundle))
    assert done.returncode == 1
    assert f"{bundle} is the bundle of arm-1, not of arm-2" in done.stderr
    assert not (tmp_path / "root/etc/graspfleet/arm-2").exists()


@pytest.mark.parametrize("script", [SCRIPT, SCRIPT.with_name("graspfleet-robot")], ids=str)
def test_shellcheck_has_nothing_to_say(script: Path):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is missing: apt-get install shellcheck")
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_udev_rule_is_well_formed():
    pair = r'[A-Z_]+(\{\w+\})?(==|!=|\+=|=)"[^"]*"'
    rules = [line for line in RULES.read_text().splitlines() if line and line[0] != "#"]
    assert len(rules) > 5
    assert [rule for rule in rules if not re.fullmatch(rf"{pair}(, {pair})*", rule)] == []


def test_the_chip_of_every_cheap_arduino_is_not_taken_for_an_arm():
    rules = [line for line in RULES.read_text().splitlines() if "7523" in line and line[0] != "#"]
    assert [rule for rule in rules if "SYMLINK" in rule] == []


def test_the_lines_for_12_v_servos_are_ready_to_be_uncommented():
    text = (ROOT / "deploy/robot/so101.toml").read_text()
    table = tomllib.loads(re.sub(r"^# (m\w\w_voltage_v = )", r"\1", text, flags=re.MULTILINE))
    options = SO101Options(**table["robot"]["options"])
    assert (options.min_voltage_v, options.max_voltage_v) == (9.5, 13.5)


def test_every_command_on_the_way_to_the_first_grasp_exists():
    page = (ROOT / "docs/raspberry-pi.md").read_text()
    shown = {("robot_agent", name) for name in re.findall(r"graspfleet-robot arm-1 (\w+)", page)}
    shown |= {("fleet", name) for name in re.findall(r"[`\n]fleet (\w+)", page)}
    ours = {"calibrate", "check", "resume", "run"}
    assert {name for _, name in shown} == ours | {"enrol", "stop", "status"}
    for module, name in shown:
        command = [sys.executable, "-m", module, name, "--help"]
        assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    options = set(re.findall(r"install\.sh (--\w+) \S+ (--\w+)", page))
    assert options == {("--robot", "--bundle")}


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_wheel_exists_for_arm_and_all_fit(tmp_path: Path, version: str):
    platforms = [word for one in ARM_PLATFORMS for word in ("--platform", one)]
    run_pip(
        *("download", "--only-binary=:all:", "--python-version", version, *platforms),
        *("--platform", "manylinux2014_aarch64", "--dest", str(tmp_path), *requirements()),
    )
    sizes = {wheel.name: unpacked_bytes(wheel) for wheel in tmp_path.glob("*.whl")}
    print(f"aarch64, Python {version}: {sum(sizes.values()) / 1e6:.0f} MB, {len(sizes)} wheels")
    assert sum(sizes.values()) < MOST_BYTES


@pytest.mark.slow
def test_what_is_installed_here_fits_with_caches_and_pip(tmp_path: Path):
    root = tmp_path / "root"
    done = subprocess.run(
        [SCRIPT], env=os.environ | {"DESTDIR": str(root)}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    home = root / "opt/graspfleet"
    installed = sum(path.lstat().st_size for path in home.rglob("*"))
    print(f"{os.uname().machine}, with pip and caches: {installed / 1e6:.0f} MB")
    assert installed < MOST_BYTES
    done = subprocess.run([home / "bin/robot-agent", "--help"], capture_output=True, check=False)
    assert done.returncode == 0


def install(tmp_path: Path, interpreter: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DESTDIR": str(tmp_path / "root"), "PYTHON": str(interpreter)}
    return subprocess.run(
        [SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    return [*constraints, *project["dependencies"], *project["optional-dependencies"]["hardware"]]


def unpacked_bytes(wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def run_pip(*arguments: str) -> None:
    pip = shutil.which("pip3") or shutil.which("pip")
    command = [pip] if pip else [sys.executable, "-m", "pip"]
    done = subprocess.run([*command, "--quiet", *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
