"""Checkpoints of training: one safetensors file each, written whole or not at all."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from learner.training.step import Training
from protocol.errors import ConfigurationError

logger = logging.getLogger(__name__)

KEEP = 3
"""Checkpoints kept, newest first."""
_SUFFIX = ".safetensors"


class _Progress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint holds beside tensors."""

    network: str
    height_px: int
    width_px: int
    step_count: int
    examples_seen: int
    release_version: int
    robots: list[tuple[str, str]]
    rng: dict[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoints:
    """The checkpoints of one run."""

    folder: Path
    network: str

    def save(self, training: Training, *, release_version: int) -> Path:
        """Write a checkpoint and drop the oldest ones; return its path.

        Raises:
            OSError: the disk is full, or the folder cannot be written; older ones are still there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        network = training.learned.network
        progress = _Progress(
            network=self.network,
            height_px=network.height_px,
            width_px=network.width_px,
            step_count=training.step_count,
            examples_seen=training.examples_seen,
            release_version=release_version,
            robots=training.learned.refiner.known(),
            rng=dict(training.rng.bit_generator.state),
        )
        path = self.folder / f"{training.step_count:09d}{_SUFFIX}"
        content = save(
            _tensors(training), metadata={"progress": msgspec.json.encode(progress).decode()}
        )
        partial = path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)  # a full disk needs the room
            raise
        for old in self._paths()[KEEP:]:
            old.unlink()
        return path

    def restore_newest(self, training: Training) -> int:
        """Load the newest readable checkpoint into ``training``; return its release version.

        A damaged file is reported and the one before it is taken; without any, nothing changes
        and 0 is returned.

        Raises:
            ConfigurationError: the checkpoint is of another network, image size or version.
        """
        for path in self._paths():
            try:
                with safe_open(path, framework="pt") as file:
                    metadata = file.metadata() or {}
                    progress = msgspec.json.decode(metadata["progress"], type=_Progress)
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            except (SafetensorError, OSError, KeyError, msgspec.DecodeError) as error:
                logger.warning("checkpoint %s is damaged (%s); trying the one before", path, error)
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
            logger.info("resumed from %s", path.name, extra={"step": progress.step_count})
            return progress.release_version
        return 0

    def _check(self, progress: _Progress, training: Training, path: Path) -> None:
        network = training.learned.network
        wanted = (self.network, network.height_px, network.width_px)
        found = (progress.network, progress.height_px, progress.width_px)
        if found != wanted:
            raise ConfigurationError(
                f"{path}: is of network {found[0]!r} for {found[1]}x{found[2]} px pictures, but "
                f"this learner is configured for {wanted[0]!r} and {wanted[1]}x{wanted[2]} px; "
                "use another run_folder, or the network that it was trained with"
            )

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{_SUFFIX}"), reverse=True)


def _tensors(training: Training) -> dict[str, Tensor]:
    tensors = {f"learned.{k}": v for k, v in training.learned.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in training.average.state_dict().items()}
    for index, state in training.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    tensors["torch_rng"] = torch.get_rng_state()
    # Cloned, because safetensors refuses tensors that share memory.
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def _restore(training: Training, tensors: dict[str, Tensor], progress: _Progress) -> None:
    training.learned.load_state_dict(_under("learned.", tensors))
    training.average.load_state_dict(_under("average.", tensors))
    optimiser = training.optimiser.state_dict()
    for name, tensor in _under("optimiser.", tensors).items():
        index, _, key = name.partition(".")
        optimiser["state"].setdefault(int(index), {})[key] = tensor
    training.optimiser.load_state_dict(optimiser)
    training.learned.refiner.restore(progress.robots)
    training.rng.bit_generator.state = progress.rng
    training.step_count = progress.step_count
    training.examples_seen = progress.examples_seen
    torch.set_rng_state(tensors["torch_rng"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
