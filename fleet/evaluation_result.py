"""What an evaluation found, attempt by attempt, and the figures that follow from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from fleet.proportion import Proportion
from fleet.run_folder import write_atomically
from protocol.episode import Label
from protocol.errors import ConfigurationError

Policy = Literal["greedy", "random"]


class EvaluatedAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt on a held-out scene."""

    robot: str
    policy: Policy
    unseen_camera: bool
    """The robot's camera pose was in no training data."""
    scene_seed: int
    scene_index: int
    """Which scene of that seed; the same pair is the same bin for every policy."""
    label: Label
    reference_success: bool | None
    object_kind: str
    moves: int
    tests_disagree: bool
    decision_ms: list[float]
    abort_reason: str = ""

    @property
    def success(self) -> bool:
        """What the robot itself claims; an aborted attempt is no success."""
        return self.label == Label.SUCCESS


class UnseenCamera(msgspec.Struct, frozen=True, kw_only=True):
    """How the robot with a new camera pose calibrated itself."""

    described_error_mm: float
    """Of the rough description it started from."""
    found_error_mm: float
    """Of the map it found by its own motion."""
    residual: float
    trusted: bool


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """``evaluation.json``."""

    release_version: int
    release_digest: str
    network: str
    max_moves: int
    wall_s: float
    objects: str
    """Which objects were in the bins."""
    attempts: list[EvaluatedAttempt]
    unseen_camera: UnseenCamera | None

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """Read ``evaluation.json``.

        Raises:
            ConfigurationError: the file is missing or is no evaluation.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{path}: not an evaluation: {error}") from error

    def write(self, path: Path) -> None:
        """Replace the file at ``path``."""
        write_atomically(path, msgspec.json.format(msgspec.json.encode(self), indent=1))

    def select(self, policy: Policy, *, unseen_camera: bool = False) -> list[EvaluatedAttempt]:
        """Return the attempts of one policy, on known cameras or on the unseen one."""
        return [
            attempt
            for attempt in self.attempts
            if attempt.policy == policy and attempt.unseen_camera == unseen_camera
        ]

    @property
    def held_out(self) -> Proportion:
        """Greedy success on held-out objects, over all robots whose camera training saw."""
        return success_of(self.select("greedy"))

    @property
    def random(self) -> Proportion:
        """Success of random commands on the same scenes."""
        return success_of(self.select("random"))

    @property
    def unseen(self) -> Proportion:
        """Greedy success of the robot whose camera pose was in no training data."""
        return success_of(self.select("greedy", unseen_camera=True))

    def decision_ms(self) -> dict[str, float | None]:
        """Return median and 99th percentile of a decision's wall time."""
        return percentiles(ms for attempt in self.attempts for ms in attempt.decision_ms)


def success_of(attempts: Iterable[EvaluatedAttempt]) -> Proportion:
    """Count the claimed successes."""
    return Proportion.of(attempt.success for attempt in attempts)


def success_by(
    attempts: Iterable[EvaluatedAttempt], key: Callable[[EvaluatedAttempt], str]
) -> dict[str, Proportion]:
    """Group attempts and count each group's successes, sorted by key."""
    groups: dict[str, list[EvaluatedAttempt]] = defaultdict(list)
    for attempt in attempts:
        groups[key(attempt)].append(attempt)
    return {name: success_of(groups[name]) for name in sorted(groups)}


def percentiles(values: Iterable[float]) -> dict[str, float | None]:
    """Return p50 and p99; both None without values."""
    known = np.fromiter(values, float)
    if known.size == 0:
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(known, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}
