"""Six simulated robots that learn and are made to fail, and a Prometheus that watches them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from fleet.child_process import ChildProcess
from fleet.enrolment import revoke_robot
from fleet.fleet_files import FleetPlan, prepare_run_folder, robot_name
from fleet.operator import registry_of
from fleet.run_folder import RunFolder
from fleet.toml_text import load_table, toml_text
from tests.free_ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS_FILES = ROOT / "deploy" / "prometheus"
DRIVERS = "tests.monitoring.failing_robot"
ROBOTS = tuple(robot_name(index) for index in range(6))


class Alert(msgspec.Struct, frozen=True, order=True):
    """An alert that fires."""

    name: str
    robot: str
    """ "" for one about the fleet or the learner."""


@dataclass(kw_only=True)
class FleetOfSix:
    """A context manager: inside it the learner and six agents run."""

    root: Path
    seed: int = 0
    metrics_port: int = 0

    def __post_init__(self) -> None:
        self.folder = RunFolder(root=self.root)
        self.metrics_port = free_port()
        options = {
            "gateway": {"metrics": {"bind": f"127.0.0.1:{self.metrics_port}"}},
            "collection": {"random_attempts": 300},
        }
        plan = FleetPlan(robots=len(ROBOTS), seed=self.seed, learner_options=options)
        prepare_run_folder(self.folder, plan)
        for name in ROBOTS:
            self._let_it_fail(name, free_port())
        self.learner = ChildProcess(
            "learner",
            ["-m", "learner", "--config", str(self.folder.learner_config)],
            log=self.folder.logs / "learner.log",
            end_signal=signal.SIGTERM,
        )
        self.agents = {
            name: ChildProcess(
                name,
                ["-m", "robot_agent", "--config", str(self.folder.robot_config(name))],
                log=self.folder.logs / f"{name}.log",
            )
            for name in ROBOTS
        }

    def __enter__(self) -> Self:
        self.learner.start()
        wait_for(lambda: self.learner_answers(), "the learner's metrics", 180)
        for agent in self.agents.values():
            agent.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end_agents()
        self.learner.ask_to_end()
        self.learner.wait(90)
        self.learner.kill()

    def learner_answers(self) -> bool:
        """Say whether the learner's endpoint is there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def fail(self, name: str, fault: str) -> None:
        """Order a fault of the driver: see failing_robot."""
        (self._faults(name) / fault).touch()

    def kill(self, name: str) -> None:
        """End a robot's agent as the power does."""
        os.kill(self.agents[name].pid, signal.SIGKILL)

    def revoke(self, name: str) -> None:
        """Shut a robot out."""
        revoke_robot(registry_of(self.folder), name)

    def end_agents(self) -> None:
        """Let every agent finish its attempt and empty its outbox."""
        for agent in self.agents.values():
            if agent.running:
                agent.ask_to_end()
        for agent in self.agents.values():
            agent.wait(60)
            agent.kill()

    def _let_it_fail(self, name: str, port: int) -> None:
        path = self.folder.robot_config(name)
        table = load_table(path)
        self._faults(name).mkdir()
        table["robot"]["driver"] = f"{DRIVERS}:FailingRobot"
        table["robot"]["options"]["faults"] = str(self._faults(name))
        table["camera"]["driver"] = f"{DRIVERS}:FailingCamera"
        table["metrics"] = {"bind": f"127.0.0.1:{port}"}
        path.write_text(toml_text(table))

    def _faults(self, name: str) -> Path:
        return self.folder.robots / name / "faults"


class PrometheusServer:
    """A Prometheus under the very files of deploy/, with other addresses; a context manager."""

    def __init__(self, folder: Path, metrics_port: int) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        shutil.copytree(PROMETHEUS_FILES / "rules", folder / "rules")
        written = (PROMETHEUS_FILES / "prometheus.yml").read_text()
        here = written.replace("learner:9108", f"127.0.0.1:{metrics_port}")
        assert here.count(f"127.0.0.1:{metrics_port}") == 2
        (folder / "prometheus.yml").write_text(here)
        with (folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_for(self._is_ready, "Prometheus", 60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(60)

    def firing(self) -> set[Alert]:
        """Return the alerts that fire now."""
        return {
            Alert(name=one["labels"]["alertname"], robot=one["labels"].get("robot", ""))
            for one in self._get("alerts")["alerts"]
            if one["state"] == "firing"
        }

    def value(self, query: str) -> float | None:
        """Return the only value of a query; None without one."""
        found = self._get(f"query?query={urllib.request.quote(query)}")["result"]
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}") as reply:
            return json.load(reply)["data"]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready") as reply:
                return bool(reply.status == 200)
        except OSError:
            return False


def wait_for(condition: Callable[[], bool], what: str, within_s: float) -> float:
    """Return how many seconds passed until ``condition`` held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"not within {within_s:.0f} s: {what}"
        time.sleep(1.0)
    return time.monotonic() - began
