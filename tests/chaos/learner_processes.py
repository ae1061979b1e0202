"""The processes behind one learner, found by descent: never those of another Ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import psutil

GATEWAY, TRAINER, RELEASES = "ray::GatewayActor", "ray::TrainingActor", "ray::ReleaseActor"
CONTROL, RAYLET = "gcs_server", "raylet"
ACTORS = {GATEWAY, TRAINER, RELEASES}
PARTS = ACTORS | {CONTROL, RAYLET}


@dataclass(kw_only=True, slots=True)
class LearnerProcesses:
    """Everything that ever descended from one driver, also what has lost its parent since."""

    driver: psutil.Process
    _seen: set[psutil.Process] = field(default_factory=set)
    """psutil compares processes by id and start time: an id that is used again is another."""

    def look(self) -> None:
        """Take note of processes that are new."""
        try:
            self._seen.update(self.driver.children(recursive=True))
        except psutil.NoSuchProcess:
            return  # it ended, or one of them did while its children were counted
        # Ray's agents and workers hang on the raylet, which may have been taken away.
        for one in self.alive():
            try:
                self._seen.update(one.children(recursive=True))
            except psutil.NoSuchProcess:
                continue

    def alive(self) -> list[psutil.Process]:
        """Return those that still run."""
        return [one for one in self._seen if is_alive(one)]

    def parts(self) -> dict[str, psutil.Process]:
        """Return the processes that matter, by name; one that is only being made is left out."""
        named = ((name_of(one), one) for one in self.alive())
        return {name: one for name, one in named if name in PARTS}

    def actors(self) -> list[psutil.Process]:
        """Return those that hold the learner's ports, its store or its checkpoints."""
        return [one for name, one in self.parts().items() if name in ACTORS]


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def name_of(process: psutil.Process) -> str:
    """Return the name of a program; Ray's actors carry their class in its place.

    "" for a process that has just ended, and for an actor that is still being made.
    """
    try:
        command = process.cmdline()
    except psutil.NoSuchProcess:
        return ""
    program = Path(command[0]).name.strip() if command else ""
    name, _, method = program.partition(".")
    return "" if method == "__init__" else name
