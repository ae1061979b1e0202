"""The agent's unit under a real systemd: what it starts again, what it spares, what it permits."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.security import create_curve_keys
from robot_agent.delivery.outbox import outbox_counts
from tests.delivery_site import ROOT
from tests.deploy.private_systemd import PrivateSystemd, private_systemd
from tests.robot_agent.agent_process import make_table, write_toml
from tests.robot_agent.drawn_robot import CAMERA, FOV_DEG
from tests.waiting import wait_until

UNIT = ROOT / "deploy/systemd/graspfleet-agent@.service"
DRAWN = "tests.robot_agent.drawn_robot"
AGENT = "graspfleet-agent@arm-1.service"
NOT_HERE = ("User", "Group", "SupplementaryGroups", "ConditionPathExists", "WorkingDirectory")
"""The system's affair: the manager of these tests is a user's."""


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSystemd]:
    with private_systemd(tmp_path_factory.mktemp("sd")) as manager:
        yield manager


def test_a_command_by_hand_gets_what_the_service_gets():
    """Else it would loosen the state folder that both share."""
    script = (ROOT / "deploy/robot/graspfleet-robot").read_text().replace("$robot", "%i")
    given = dict(re.findall(r'--property="?(\w+)=([^"\n]*?)"? \\\n', script))
    unit = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    assert given.pop("LoadCredential") == "robot.secret:$folder/robot.secret"
    assert set(given) >= {"User", "StateDirectory", "StateDirectoryMode", "UMask"}
    assert given == {name: unit[name] for name in given}


def start(systemd: PrivateSystemd, program: str) -> Path:
    """Start the unit with a program of Python's in the agent's place; return a folder for it."""
    folder = systemd.folder / "work"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    create_curve_keys(folder / "robot.secret", folder / "robot.public")
    (folder / "agent.py").write_text(program)
    start_command(systemd, f"{sys.executable} {folder}/agent.py", folder)
    return folder


def start_command(systemd: PrivateSystemd, command: str, folder: Path) -> None:
    """Start the unit with another command; ``folder`` has the robot's key and may be written."""
    text = re.sub(rf"^({'|'.join(NOT_HERE)})=.*\n", "", UNIT.read_text(), flags=re.MULTILINE)
    # The interpreter of a developer may well be at home, and these tests work below /tmp.
    text = text.replace("PrivateTmp=yes", f"ReadWritePaths={folder}")
    text = text.replace("ProtectHome=yes", "ProtectHome=read-only")
    text = text.replace("/etc/graspfleet/%i", str(folder)).replace("RestartSec=5", "RestartSec=0.1")
    text = re.sub(r"^ExecStart=.*", f"ExecStart={command}", text, flags=re.MULTILINE)
    text = text.replace("[Install]", f"Environment=PYTHONPATH={ROOT}\n[Install]")
    (systemd.units / UNIT.name).write_text(text)
    systemd.control("daemon-reload")
    systemd.control("start", AGENT)


def ended(systemd: PrivateSystemd) -> bool:
    return systemd.show(AGENT, "ActiveState") in {"failed", "inactive"}


@pytest.mark.parametrize("status", [2, 3])
def test_what_only_a_person_mends_is_not_started_again(systemd: PrivateSystemd, status: int):
    start(systemd, f"raise SystemExit({status})")
    wait_until(lambda: ended(systemd), "the service has ended")
    assert systemd.show(AGENT, "NRestarts") == "0"
    assert systemd.show(AGENT, "ExecMainStatus") == str(status)


def test_a_failure_is_tried_again_and_again(systemd: PrivateSystemd):
    start(systemd, "raise SystemExit(1)")
    wait_until(lambda: int(systemd.show(AGENT, "NRestarts")) >= 3, "it is started again")
    systemd.control("stop", AGENT)


def test_the_guard_of_an_agent_that_is_killed_lives_on_until_it_is_done(systemd: PrivateSystemd):
    folder = start(
        systemd,
        """
import os, pathlib, signal, sys, time
here = pathlib.Path(__file__).parent
if (here / "killed").exists():
    sys.exit(3)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while os.getppid() != 1 and not (here / "killed").exists():
        time.sleep(0.01)
    time.sleep(0.5)  # as long as a port may take
    (here / "held").touch()
    os._exit(0)
(here / "killed").touch()
os.kill(os.getpid(), signal.SIGKILL)
""",
    )
    wait_until(lambda: (folder / "held").exists(), "the guard has held the arm")
    wait_until(lambda: ended(systemd), "the service has ended")


def test_the_sandbox_permits_what_an_agent_needs_and_its_key_is_a_credential(
    systemd: PrivateSystemd,
):
    folder = start(
        systemd,
        """
import os, pathlib, pty, signal, traceback
here = pathlib.Path(__file__).parent
try:
    import cv2, onnxruntime, optik, serial, zmq
    import robot_agent.agent
    # As the guard ends an agent, and as a driver opens its port.
    signal.pidfd_send_signal(os.pidfd_open(os.getpid()), 0)
    serial.Serial(os.ttyname(pty.openpty()[1]), 1_000_000, exclusive=True).close()
    from protocol.key_files import credential_of
    from protocol.security import load_curve_keys, load_curve_public
    secret = credential_of(here / "robot.secret")
    assert secret.parent == pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"])
    assert load_curve_keys(secret).public == load_curve_public(here / "robot.public")
    said = "well"
except BaseException:
    said = traceback.format_exc()
(here / "said").write_text(said)
""",
    )
    wait_until(lambda: ended(systemd), "the program has ended")
    assert (folder / "said").read_text() == "well"


def test_the_sandbox_keeps_the_system_from_the_agent(systemd: PrivateSystemd):
    folder = start(
        systemd,
        """
import os, pathlib
here = pathlib.Path(__file__).parent
refused = []
for path in ("/etc/graspfleet-was-here", "/usr/graspfleet-was-here"):
    try:
        open(path, "w")
    except OSError:
        refused.append(path)
(here / "said").write_text(" ".join(refused))
""",
    )
    wait_until(lambda: ended(systemd), "the program has ended")
    assert len((folder / "said").read_text().split()) == 2


@pytest.mark.slow
def test_an_agent_makes_its_attempts_in_the_sandbox(systemd: PrivateSystemd, tmp_path: Path):
    table = make_table(tmp_path) | {"max_attempts": 3, "robot": {"driver": f"{DRAWN}:DrawnRobot"}}
    table |= {"camera": {"driver": f"{DRAWN}:DrawnCamera"}}
    table["camera_description"] = {**CAMERA, "vertical_fov_deg": FOV_DEG}
    toml = write_toml(tmp_path, table)
    start_command(systemd, f"{sys.executable} -m robot_agent --config {toml}", toml.parent)
    wait_until(lambda: ended(systemd), "the agent has ended", within_s=120.0)
    assert systemd.show(AGENT, "ExecMainStatus") == "0"
    assert outbox_counts(toml.parent / "state").waiting == 3
