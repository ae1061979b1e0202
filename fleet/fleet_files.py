"""Makes the files of a one-machine fleet: keys, registry, ``learner.toml``, ``robot.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fleet.camera_description import falsify
from fleet.enrolment import (
    RELEASE_PUBLIC,
    RELEASE_SECRET,
    SERVER_PUBLIC,
    SERVER_SECRET,
    LearnerAddress,
    enrol_robot,
    ensure_learner_keys,
)
from fleet.ports import free_ports
from fleet.run_folder import FleetRecord, RunFolder, write_atomically
from fleet.toml_text import edited, laid_over, load_table, toml_text
from learner.config import EVERY_ADDRESS, LearnerConfig
from protocol.configuration import from_table, load_toml
from protocol.errors import ConfigurationError
from protocol.ports import bind_error
from protocol.registry import Registry
from robot_agent.arms.arm_places import ARM_PLACES
from robot_agent.config import AgentConfig, CameraDescription
from robot_agent.robots.simulated import randomised_options
from robot_agent.robots.simulated.scene import WORKSPACE_M

SIMULATED_ROBOT = "robot_agent.robots.simulated:SimulatedRobot"
SIMULATED_CAMERA = "robot_agent.cameras.simulated:SimulatedCamera"

_WORKSPACE = dict(zip(("x_m", "y_m", "z_m"), map(list, WORKSPACE_M), strict=True))
_IMAGE_PX = 64
SESSION_SEEDS = 1_000_000
"""Distance between the scene seeds of one session and the next."""
MOST_ROBOTS = 999
"""Of one run; with more, a robot could be the same as one of a run of the next seed."""
MOST_SEED = 100_000
"""With a higher one the scenes of later sessions could be those that are kept for evaluation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetPlan:
    """What ``fleet demo`` was asked for."""

    robots: int
    seed: int
    session: int = 0
    """How many sessions this folder has seen: each has scenes of its own."""
    driver: str = SIMULATED_ROBOT
    arm: str = ""
    """Of the simulated robots, one of ARM_PLACES; "" for gantries."""
    camera: str = SIMULATED_CAMERA
    learner_options: Mapping[str, Any] = field(default_factory=dict)
    """Laid over the ``learner.toml`` that is made, or is there."""
    learner_options_name: str = "learner options"
    """What an error calls them: their file."""


class CameraRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``camera.json``: what ``robot.toml`` says of the camera, and what is true."""

    true: CameraDescription
    described: CameraDescription

    @classmethod
    def read(cls, path: Path) -> CameraRecord:
        """Read ``camera.json``.

        Raises:
            ConfigurationError: the file is missing or is no such record.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{path}: not a camera's record: {error}") from error


def driver_and_arm(robot: str) -> tuple[str, str]:
    """Return the driver, and the arm of simulated robots, that a person asked for.

    Args:
        robot: ``module:Class``, or the name of an arm that can be simulated.

    Raises:
        ConfigurationError: it is neither.
    """
    if robot in ARM_PLACES:
        return SIMULATED_ROBOT, robot
    if ":" not in robot:
        known = ", ".join(sorted(ARM_PLACES))
        raise ConfigurationError(
            f"--robot {robot}: expected an arm to simulate ({known}) or a driver, module:Class"
        )
    return robot, ""


def prepare_run_folder(folder: RunFolder, plan: FleetPlan) -> None:
    """Make whatever is not there yet; what an earlier session made, or a person wrote, stays.

    Only the ports may change, where another program has taken the old ones, and of a robot what
    each session decides: its scenes, its driver. Nothing is written before all of it is checked.

    Raises:
        ConfigurationError: an option is wrong, a file cannot be written, or the folder is that of
            a learner which somebody set up by hand.
    """
    text, address = _learner_toml(folder, plan)
    try:
        for path in (folder.keys, folder.registry, folder.robots, folder.learner, folder.logs):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{folder.root}: no place for a run: {error.strerror}") from error
    ensure_learner_keys(folder.keys, Registry(folder.registry))
    if not folder.fleet_record.is_file():  # first: it says that learner.toml is not a person's
        FleetRecord(seed=plan.seed).write(folder.fleet_record)
    _write_changed(folder.learner_config, text)
    for index in range(plan.robots):
        _write_robot(folder, plan, index, address)


def robot_name(index: int) -> str:
    """Return the name of the fleet's robot ``index``, counted from 0."""
    return f"robot-{index + 1:02d}"


def learner_config(folder: RunFolder) -> LearnerConfig:
    """Read the learner's configuration of a run folder."""
    return load_toml(folder.learner_config, LearnerConfig)


def agent_config(folder: RunFolder, name: str) -> AgentConfig:
    """Read one robot's configuration of a run folder."""
    return load_toml(folder.robot_config(name), AgentConfig)


def camera_record(folder: RunFolder, name: str) -> CameraRecord | None:
    """Return the truth about a robot's camera; None where nobody knows it.

    Raises:
        ConfigurationError: its file is damaged.
    """
    path = folder.robots / name / "camera.json"
    return CameraRecord.read(path) if path.is_file() else None


def simulated_robot_seed(seed: int, index: int) -> int:
    """Return the seed of robot ``index``: no two robots of any two small seeds share one."""
    return 1000 * seed + index


def _learner_toml(folder: RunFolder, plan: FleetPlan) -> tuple[str, LearnerAddress]:
    """Return the text of ``learner.toml``, and where robots on this machine find that learner."""
    if folder.learner_config.is_file():
        text = _later_learner_toml(folder, plan)
    else:
        text = _first_learner_toml(plan)
    config = _checked(folder, text, plan)
    return text, LearnerAddress(
        keys=folder.keys,
        episodes=_here(config.gateways[0].bind),
        releases=_here(config.releases.bind),
    )


def _first_learner_toml(plan: FleetPlan) -> str:
    gateway_port, releases_port = free_ports(2)
    table: dict[str, Any] = {
        "run_folder": "learner",
        "seed": plan.seed,
        "keys": {
            "server_secret": f"keys/{SERVER_SECRET}",
            "release_secret": f"keys/{RELEASE_SECRET}",
            "registry": "registry",
        },
        "gateway": {"bind": f"tcp://127.0.0.1:{gateway_port}", "store": "learner/episodes"},
        "releases": {"bind": f"tcp://127.0.0.1:{releases_port}", "folder": "learner/releases"},
    }
    return toml_text(laid_over(table, plan.learner_options))


def _later_learner_toml(folder: RunFolder, plan: FleetPlan) -> str:
    """Return the text that is there, with other ports where something else listens on them."""
    if not folder.fleet_record.is_file():
        raise ConfigurationError(
            f"{folder.root}: its {folder.learner_config.name} was written by hand, not by a demo, "
            "and is left as it is; give the demo another --out"
        )
    config = learner_config(folder)
    text = edited(folder.learner_config.read_text(encoding="utf-8"), plan.learner_options)
    binds = (config.gateways[0].bind, config.releases.bind)
    if all(bind_error(_port(bind)) is None for bind in binds):
        return text
    for bind, port in zip(binds, free_ports(2), strict=True):
        text = re.sub(rf"{re.escape(bind)}(?!\d)", f"{bind.rpartition(':')[0]}:{port}", text)
    return text


def _checked(folder: RunFolder, text: str, plan: FleetPlan) -> LearnerConfig:
    """Refuse an option that is wrong before anything is written or starts."""
    name = plan.learner_options_name if plan.learner_options else str(folder.learner_config)
    return from_table(tomllib.loads(text), LearnerConfig, name=name, folder=folder.root.resolve())


def _port(bind: str) -> int:
    return int(bind.rpartition(":")[2])


def _here(bind: str) -> str:
    """Return where robots on this machine reach what may listen on every address."""
    return EVERY_ADDRESS.sub("tcp://127.0.0.1:", bind)


def _write_changed(path: Path, text: str) -> None:
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomically(path, text.encode())


def _write_robot(folder: RunFolder, plan: FleetPlan, index: int, address: LearnerAddress) -> None:
    name = robot_name(index)
    home = folder.robots / name
    if not (home / "robot.secret").exists():
        enrol_robot(Registry(folder.registry), name, home, address)
    seed = simulated_robot_seed(plan.seed, index)
    options = randomised_options(seed, "camera-and-wear") if _is_simulated(plan) else {}
    if options:
        options["seed"] = seed + SESSION_SEEDS * plan.session
        options |= {"arm": plan.arm} if plan.arm else {}
    described = _description(home, options, seed)
    table = {
        "name": name,
        "state_folder": "state",
        "secret_key": "robot.secret",
        "seed": seed,
        "robot": {"driver": plan.driver, "options": options},
        "camera": {"driver": plan.camera, "width_px": _IMAGE_PX, "height_px": _IMAGE_PX},
        "workspace": _WORKSPACE,
        "camera_description": asdict(described),
        "learner": {
            "episodes": address.episodes,
            "releases": address.releases,
            "public_key": SERVER_PUBLIC,
            "release_key": RELEASE_PUBLIC,
        },
    }
    _write_changed(folder.robot_config(name), _robot_toml(folder.robot_config(name), table))
    agent_config(folder, name)


def _robot_toml(path: Path, made: dict[str, Any]) -> str:
    """Return the text that is there with what this session decides; ``made`` for another robot."""
    if not path.is_file():
        return toml_text(made)
    robot, before = made["robot"], load_table(path).get("robot", {})
    kind = (robot["driver"], robot["options"].get("arm", ""))
    if kind != (before.get("driver"), before.get("options", {}).get("arm", "")):
        return toml_text(made)
    decided: dict[str, Any] = {
        "camera": {"driver": made["camera"]["driver"]},
        "learner": {key: made["learner"][key] for key in ("episodes", "releases")},
    }
    if "seed" in robot["options"]:
        decided["robot"] = {"options": {"seed": robot["options"]["seed"]}}
    return edited(path.read_text(encoding="utf-8"), decided)


def _is_simulated(plan: FleetPlan) -> bool:
    return plan.driver == SIMULATED_ROBOT


def _description(home: Path, options: dict[str, Any], seed: int) -> CameraDescription:
    """Return the rough description of a robot's camera, made once and then kept."""
    path = home / "camera.json"
    if path.is_file():
        return CameraRecord.read(path).described
    if "camera" not in options:
        raise ConfigurationError(
            f"{home}: nothing is known of this robot's camera; write {path.name} with the keys "
            "'true' and 'described' there, each with position_m, look_at_m and vertical_fov_deg"
        )
    true = CameraDescription(**options["camera"])
    record = CameraRecord(
        true=true, described=falsify(true, np.random.default_rng([seed, 104_729]))
    )
    write_atomically(path, msgspec.json.format(msgspec.json.encode(record), indent=2))
    return record.described
