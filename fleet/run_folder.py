"""Where everything of one fleet run lies."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fleet.attempts import Session
from learner.config import LearnerConfig
from protocol.configuration import load_toml
from protocol.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """Paths of the folder that ``fleet demo --out`` names, or ``--run`` of a learner of one's own.

    What ``learner.toml`` names is where it says; to ask for it raises ConfigurationError when that
    file is missing or wrong.
    """

    root: Path

    @classmethod
    def existing(cls, root: Path) -> RunFolder:
        """Return the folder of a run that was started before.

        Raises:
            ConfigurationError: there is none.
        """
        folder = cls(root=root.resolve())
        if not folder.learner_config.is_file():
            raise ConfigurationError(
                f"{root}: not a fleet's run folder, it has no {folder.learner_config.name}"
            )
        return folder

    @property
    def learner_config(self) -> Path:
        """``learner.toml``."""
        return self.root / "learner.toml"

    @property
    def keys(self) -> Path:
        """The learner's, the release signer's and the operator's keys."""
        return self.root / "keys"

    @property
    def registry(self) -> Path:
        """Public keys of the enrolled robots."""
        return self.root / "registry"

    @property
    def robots(self) -> Path:
        """One folder per robot."""
        return self.root / "robots"

    @property
    def learner(self) -> Path:
        """The learner's own run folder."""
        return self.root / "learner"

    @property
    def stores(self) -> list[Path]:
        """The episode stores that ``learner.toml`` names: one for each gateway."""
        return [one.store for one in self._config().gateways]

    @property
    def store(self) -> Path:
        """The episode store of the first gateway; a demo has no other."""
        return self.stores[0]

    @property
    def releases(self) -> Path:
        """Folder of the release files, as ``learner.toml`` names it."""
        return self._config().releases.folder

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.root / "logs"

    @property
    def evaluation(self) -> Path:
        """Result of the last evaluation."""
        return self.root / "evaluation.json"

    @property
    def summary(self) -> Path:
        """The figures of the run."""
        return self.root / "summary.json"

    @property
    def fleet_record(self) -> Path:
        """What only the fleet's own process knows: sessions, memory, restarts."""
        return self.root / "fleet.json"

    def robot_names(self) -> list[str]:
        """Return the robots that have a folder here, sorted."""
        return sorted(path.parent.name for path in self.robots.glob("*/robot.toml"))

    def robot_config(self, name: str) -> Path:
        """Return the path of a robot's ``robot.toml``."""
        return self.robots / name / "robot.toml"

    def newest_release(self) -> Path | None:
        """Return the release file with the highest version; None before the first."""
        files = sorted(self.releases.glob("release-*.gfrel"))
        return files[-1] if files else None

    def _config(self) -> LearnerConfig:
        return load_toml(self.learner_config, LearnerConfig)


class FleetRecord(msgspec.Struct, kw_only=True):
    """``fleet.json``: grows over all sessions of a run folder."""

    seed: int = 0
    sessions: list[Session] = []
    wall_s: float = 0.0
    """From the first to the last moment of every session, evaluation included."""
    restarts: dict[str, int] = {}
    """Processes that ended unasked and were started again, by name."""
    peak_resident_mb: dict[str, float] = {}
    """By process name."""
    release_latency_ms: list[float] = []
    releases_published: int = 0
    interrupted: bool = False
    """The last session was ended by a person before its time."""

    @classmethod
    def read(cls, path: Path) -> FleetRecord:
        """Return the record at ``path``; an empty one when there is none.

        Raises:
            ConfigurationError: something is there and is not such a record, or cannot be read.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{path}: not a fleet record: {error}") from error

    def write(self, path: Path) -> None:
        """Replace the file at ``path`` in one step."""
        write_atomically(path, msgspec.json.format(msgspec.json.encode(self), indent=2))

    def open_session(self) -> None:
        """Begin to collect now."""
        now = time.time_ns()
        self.sessions.append(Session(started_at_ns=now, ended_at_ns=now))

    def extend_session(self) -> None:
        """The session lasted until now."""
        start = self.sessions[-1].started_at_ns
        self.sessions[-1] = Session(started_at_ns=start, ended_at_ns=time.time_ns())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never half of it.

    Raises:
        ConfigurationError: it cannot be written; a full disk, say.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
