"""What an operator's commands need of a run folder: where the learner is, and the keys to it."""

from __future__ import annotations

import re
from pathlib import Path

from fleet.enrolment import OPERATOR_SECRET, LearnerAddress
from fleet.run_folder import RunFolder
from learner.config import EVERY_ADDRESS, LearnerConfig
from protocol.configuration import load_toml
from protocol.errors import ConfigurationError
from protocol.registry import Registry
from protocol.security import CurveKeys, load_curve_keys

_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]+\]")


def operator_connection(folder: RunFolder) -> tuple[list[str], CurveKeys, bytes]:
    """Return the gateways' endpoints, the operator's keys and the learner's public key.

    Raises:
        ConfigurationError: a file is missing or wrong.
    """
    config = _config(folder)
    return [one.advertise or _here(one.bind) for one in config.gateways], *_keys(config)


def release_connection(folder: RunFolder) -> tuple[str, CurveKeys, bytes]:
    """Return the release server's endpoint, the operator's keys and the learner's public key.

    Raises:
        ConfigurationError: a file is missing or wrong.
    """
    config = _config(folder)
    return _here(config.releases.bind), *_keys(config)


def learner_address(folder: RunFolder, host: str | None) -> LearnerAddress:
    """Return what a robot must know of this folder's learner.

    Args:
        folder: of the learner.
        host: under which the robot reaches it; None for the one it binds to.

    Raises:
        ConfigurationError: a file is missing or wrong, or ``host`` is no host, or none is named
            and the learner binds to every address.
    """
    config = _config(folder)
    gateways = tuple(one.advertise or _at(host, one.bind) for one in config.gateways)
    return LearnerAddress(
        keys=config.keys.server_secret.parent,
        episodes=gateways[0] if len(gateways) == 1 else gateways,
        releases=_at(host, config.releases.bind),
    )


def keys_of(folder: RunFolder) -> Path:
    """Return the folder of the learner's keys."""
    return _config(folder).keys.server_secret.parent


def registry_of(folder: RunFolder) -> Registry:
    """Return the registry that the folder's learner goes by."""
    return Registry(_config(folder).keys.registry)


def _config(folder: RunFolder) -> LearnerConfig:
    return load_toml(folder.learner_config, LearnerConfig)


def _here(bind: str) -> str:
    """Return where to reach, on this machine, what may listen on every address."""
    return EVERY_ADDRESS.sub("tcp://127.0.0.1:", bind)


def _keys(config: LearnerConfig) -> tuple[CurveKeys, bytes]:
    secret = config.keys.server_secret
    return load_curve_keys(secret.parent / OPERATOR_SECRET), load_curve_keys(secret).public


def _at(host: str | None, bind: str) -> str:
    if host is not None and not _HOST.fullmatch(host):
        raise ConfigurationError(
            f"host {host!r}: a name, an IPv4 address or an IPv6 one in [ ], and no port"
        )
    if host is None and EVERY_ADDRESS.match(bind):
        raise ConfigurationError(
            f"the learner listens at {bind}, which is every address it has: say with --host under "
            "which one the robot reaches it"
        )
    return bind if host is None else f"tcp://{host}:{bind.rpartition(':')[2]}"
