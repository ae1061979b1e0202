"""Checkpoints of training: one safetensors file each, written whole or not at all."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from learner.config import LearnerConfig
from learner.training.checkpoint_folder import CheckpointFolder, checkpoint_folder
from learner.training.replay_feed import Counted
from learner.training.step import Training
from protocol.errors import ConfigurationError

logger = logging.getLogger(__name__)

FORMAT = 2
_SUFFIX = ".safetensors"


class _Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint holds beside tensors. Random numbers follow from seed and step."""

    format: int
    network: str
    height_px: int
    width_px: int
    seed: int
    step_count: int
    examples_seen: int
    release_version: int
    counted_through: int | dict[str, int]
    """By store; a number alone, which older ones have, is of whatever store there is."""
    counted_examples: int
    history_drawn: int
    robots: list[tuple[str, str]]
    rows_by_age: list[int] = []
    """Of each robot the oldest calibration's first; older checkpoints do not say."""
    trained_rows: int


class _Format(msgspec.Struct, frozen=True):
    """Of any version of this file."""

    format: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumed:
    """What a checkpoint says beside the state of the training; the defaults are a new run's."""

    release_version: int = 0
    counted: Counted = field(default_factory=Counted)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A copy of all that a training is, in memory."""

    tensors: dict[str, Tensor]
    progress: _Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoints:
    """The checkpoints of one run."""

    folder: CheckpointFolder
    network: str
    keep: int = 3

    def save(
        self, training: Training, *, release_version: int, counted: Counted | None = None
    ) -> str:
        """Write a checkpoint and drop the oldest ones; return its name.

        Raises:
            OSError: see ``write``.
        """
        taken = self.take(training, release_version=release_version, counted=counted)
        return self.write(taken)

    def take(
        self, training: Training, *, release_version: int, counted: Counted | None = None
    ) -> Checkpoint:
        """Return a checkpoint of now, which is to be written while training goes on."""
        counted = counted or Counted()
        network = training.learned.network
        refiner = training.learned.refiner
        progress = _Progress(
            format=FORMAT,
            network=self.network,
            height_px=network.height_px,
            width_px=network.width_px,
            seed=training.seed,
            step_count=training.step_count,
            examples_seen=training.examples_seen,
            release_version=release_version,
            counted_through=counted.through,
            counted_examples=counted.examples,
            history_drawn=counted.history_drawn,
            robots=refiner.known(),
            rows_by_age=refiner.rows.by_age(),
            trained_rows=refiner.trained_rows,
        )
        return Checkpoint(tensors=_tensors(training), progress=progress)

    def write(self, checkpoint: Checkpoint) -> str:
        """Write a checkpoint and drop the oldest ones; return its name.

        Raises:
            OSError: the disk is full, or the folder cannot be written; older ones are still there.
        """
        name = f"{checkpoint.progress.step_count:09d}{_SUFFIX}"
        self.folder.write(name, _packed(checkpoint.tensors, checkpoint.progress))
        others = [other for other in self._names() if other != name]
        for old in others[self.keep - 1 :]:
            self.folder.remove(old)
        return name

    def restore_newest(self, training: Training) -> Resumed:
        """Load the newest readable checkpoint into ``training``; return what else it says.

        A damaged file is reported and set aside, and the one before it is taken; without any,
        nothing changes.

        Raises:
            ConfigurationError: the checkpoint is of another network, image size or version, or
                the folder or a file cannot be read now.
        """
        for name in self._names():
            path = f"{self.folder}/{name}"
            try:
                progress, tensors = _unpacked(self._read(name), path)
            except (SafetensorError, KeyError, msgspec.DecodeError, ValueError) as error:
                logger.warning("checkpoint %s is damaged (%s); trying the one before", path, error)
                if not training.team.rank:
                    self._set_aside(name)
                continue
            self._check(progress, training, path)
            try:
                _restore(training, tensors, progress)
            except (RuntimeError, KeyError) as error:
                reason = " ".join(str(error).split())
                raise ConfigurationError(
                    f"{path}: does not fit network {self.network!r} of this version ({reason}); "
                    "use another run_folder, or the version that wrote it"
                ) from error
            logger.info("resumed from %s", name, extra={"step": progress.step_count})
            counted = Counted(
                through=_by_store(progress.counted_through),
                examples=progress.counted_examples,
                history_drawn=progress.history_drawn,
            )
            return Resumed(release_version=progress.release_version, counted=counted)
        return Resumed()

    def lack_of_room(self, training: Training) -> str:
        """Return in words that the next checkpoint will not fit; "" if it will."""
        needed = sum(t.numel() * t.element_size() for t in _tensors(training).values())
        free = self.folder.free_bytes()
        if free is None or free > needed:
            return ""
        return f"{self.folder}: a checkpoint takes {needed} bytes, and {free} are free"

    def _check(self, progress: _Progress, training: Training, path: str) -> None:
        network = training.learned.network
        wanted = (self.network, network.height_px, network.width_px)
        found = (progress.network, progress.height_px, progress.width_px)
        if found != wanted:
            raise ConfigurationError(
                f"{path}: is of network {found[0]!r} for {found[1]}x{found[2]} px pictures, but "
                f"this learner is configured for {wanted[0]!r} and {wanted[1]}x{wanted[2]} px; "
                "use another run_folder, or the network that it was trained with"
            )

    def _read(self, name: str) -> bytes:
        try:
            return self.folder.read(name)
        except FileNotFoundError as error:
            # Another worker of the team has set it aside.
            raise ValueError("it has gone") from error
        except OSError as error:
            # Damaged is another matter: this file may be all that the run has learned.
            raise ConfigurationError(
                f"training.checkpoints {self.folder}: {name} cannot be read now: "
                f"{error.strerror or error}; start again when it can, or move it away"
            ) from error

    def _set_aside(self, name: str) -> None:
        try:
            self.folder.rename(name, f"{name}.damaged")
        except OSError as error:
            logger.warning("%s stays where it is: %s", name, error.strerror or error)

    def _names(self) -> list[str]:
        try:
            found = self.folder.names()
        except OSError as error:
            raise ConfigurationError(
                f"training.checkpoints {self.folder}: cannot be read: {error}"
            ) from error
        return sorted((name for name in found if name.endswith(_SUFFIX)), reverse=True)


def _by_store(through: int | dict[str, int]) -> dict[str, int]:
    return {"": through} if isinstance(through, int) else through


def checkpoints_of(config: LearnerConfig) -> Checkpoints:
    """Return the checkpoints where the configuration wants them.

    Raises:
        ConfigurationError: it names a place that cannot be used.
    """
    folder = checkpoint_folder(config.training.checkpoints, config.run_folder / "checkpoints")
    return Checkpoints(folder=folder, network=config.network, keep=config.training.keep_checkpoints)


def _packed(tensors: dict[str, Tensor], progress: _Progress) -> bytes:
    facts = msgspec.json.encode(progress).decode()
    return save(tensors, metadata={"progress": facts, "sha256": _digest(tensors, facts)})


def _unpacked(content: bytes, path: str) -> tuple[_Progress, dict[str, Tensor]]:
    """Return what a file holds.

    Raises:
        ConfigurationError: it is of another version.
        SafetensorError, KeyError, msgspec.DecodeError, ValueError: it is damaged.
    """
    tensors = load(content)
    metadata = _metadata(content)
    found = msgspec.json.decode(metadata["progress"], type=_Format).format
    if found != FORMAT:
        raise ConfigurationError(
            f"{path}: is a checkpoint of format {found}, but this learner reads {FORMAT}; use "
            "another run_folder, or the version that wrote it"
        )
    if _digest(tensors, metadata["progress"]) != metadata["sha256"]:
        raise ValueError("its digest does not match")
    return msgspec.json.decode(metadata["progress"], type=_Progress), tensors


def _metadata(content: bytes) -> dict[str, str]:
    # The library reads the metadata of files only; the header is JSON behind its own length.
    header_bytes = int.from_bytes(content[:8], "little")
    header = msgspec.json.decode(content[8 : 8 + header_bytes], type=dict[str, msgspec.Raw])
    return msgspec.json.decode(header["__metadata__"], type=dict[str, str])


def _digest(tensors: dict[str, Tensor], facts: str) -> str:
    found = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].numpy().data)
    return found.hexdigest()


def _tensors(training: Training) -> dict[str, Tensor]:
    tensors = {f"learned.{k}": v for k, v in training.learned.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in training.average.state_dict().items()}
    for index, state in training.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    # Cloned: safetensors refuses tensors that share memory, and training goes on meanwhile. From
    # the CPU, so that a checkpoint fits any device.
    return {n: torch.clone(t.detach().cpu()).contiguous() for n, t in tensors.items()}


def _restore(training: Training, tensors: dict[str, Tensor], progress: _Progress) -> None:
    training.learned.load_state_dict(_under("learned.", tensors))
    training.average.load_state_dict(_under("average.", tensors))
    optimiser = training.optimiser.state_dict()
    for name, tensor in _under("optimiser.", tensors).items():
        index, _, key = name.partition(".")
        optimiser["state"].setdefault(int(index), {})[key] = tensor
    training.optimiser.load_state_dict(optimiser)
    training.learned.refiner.restore(
        progress.robots, progress.rows_by_age, trained_rows=progress.trained_rows
    )
    training.seed = progress.seed
    training.step_count = progress.step_count
    training.examples_seen = progress.examples_seen


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
