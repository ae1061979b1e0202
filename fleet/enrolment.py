"""Enrolling robots and shutting them out again.

A bundle is a folder to copy to the robot: its secret key, the learner's public key (and a notice of
the next one, while that is being changed), the key that releases are verified with, and
``robot-part.toml`` with the lines for its ``robot.toml``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleet.toml_text import toml_text
from protocol.errors import ConfigurationError
from protocol.key_files import PUBLIC_MODE, write_new
from protocol.key_notice import notice_beside, read_key_notice, write_key_notice
from protocol.registry import Registry
from protocol.security import (
    create_curve_keys,
    create_release_keys,
    load_curve_keys,
    load_release_public,
    load_release_secret,
    release_public_pem,
    write_curve_public,
)
from protocol.server_key import mark_confirmed

SERVER_SECRET = "server.secret"  # noqa: S105 (a file's name)
SERVER_PUBLIC = "server.public"
RELEASE_SECRET = "release.secret"  # noqa: S105 (a file's name)
RELEASE_PUBLIC = "release.public"
OPERATOR = "operator"
OPERATOR_SECRET = "operator.secret"  # noqa: S105 (a file's name)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerAddress:
    """What a robot must know of the learner."""

    keys: Path
    """Folder of the learner's keys, see ``ensure_learner_keys``."""
    episodes: str | tuple[str, ...]
    """Endpoint of the gateway, or of each, ``tcp://host:port``, as the robot reaches it."""
    releases: str
    """Endpoint of the release server."""


def ensure_learner_keys(folder: Path, registry: Registry) -> None:
    """Make what is missing of the learner's and the operator's keys; keep what is there.

    Raises:
        ConfigurationError: a file of theirs is wrong or cannot be written.
    """
    _ensure_curve_keys(folder / SERVER_SECRET, folder / SERVER_PUBLIC)
    _ensure_release_keys(folder / RELEASE_SECRET, folder / RELEASE_PUBLIC)
    _ensure_curve_keys(folder / OPERATOR_SECRET, folder / "operator.public")
    if not registry.has(OPERATOR):
        operator = load_curve_keys(folder / OPERATOR_SECRET)
        registry.enrol(OPERATOR, operator.public.decode("ascii"), role="operator")


def _ensure_curve_keys(secret: Path, public: Path) -> None:
    """Make a pair of keys, or the public half where whoever made them was killed in between.

    Nothing is made in place of a secret that was taken away: its public half is with the robots.
    """
    if secret.exists() and not public.exists():
        write_curve_public(public, load_curve_keys(secret).public)
    elif not public.exists():
        create_curve_keys(secret, public)


def _ensure_release_keys(secret: Path, public: Path) -> None:
    """Do the same for the keys that sign releases."""
    if secret.exists() and not public.exists():
        pem = release_public_pem(load_release_secret(secret).public_key())
        write_new(public, pem, mode=PUBLIC_MODE)
    elif not public.exists():
        create_release_keys(secret, public)


def enrol_robot(registry: Registry, name: str, bundle: Path, learner: LearnerAddress) -> None:
    """Make keys for a robot, write its bundle and let it in.

    Raises:
        ConfigurationError: the name is malformed or taken, the bundle exists, or the learner has
            no keys yet.
    """
    if name == OPERATOR:
        raise ConfigurationError(f"{OPERATOR!r} is the operator's own name; name the robot else")
    registry.check_name_is_free(name)
    # Computed from the secret: that is the key in use, whatever else lies beside it.
    server_public = load_curve_keys(learner.keys / SERVER_SECRET).public
    notice = read_key_notice(notice_beside(learner.keys / SERVER_SECRET))
    release_public = load_release_public(learner.keys / RELEASE_PUBLIC)
    keys = create_curve_keys(bundle / "robot.secret", bundle / "robot.public")
    write_curve_public(bundle / SERVER_PUBLIC, server_public)
    if notice is not None:
        write_key_notice(notice_beside(bundle / SERVER_PUBLIC), notice)
    write_new(bundle / RELEASE_PUBLIC, release_public_pem(release_public), mode=PUBLIC_MODE)
    table = {
        "name": name,
        "secret_key": "robot.secret",
        "learner": {
            "episodes": learner.episodes,
            "releases": learner.releases,
            "public_key": SERVER_PUBLIC,
            "release_key": RELEASE_PUBLIC,
        },
    }
    write_new(bundle / "robot-part.toml", toml_text(table).encode(), mode=PUBLIC_MODE)
    # Last, so that a robot is let in only when its bundle is whole.
    registry.enrol(name, keys.public.decode("ascii"))
    if notice is not None:
        mark_confirmed(learner.keys / SERVER_SECRET, name, notice.next_public_key)


def revoke_robot(registry: Registry, name: str) -> None:
    """Shut a robot out, also on a connection that is open now.

    Raises:
        ConfigurationError: it is not enrolled, or no robot.
    """
    if any(each.name == name and each.role != "robot" for each in registry.members()):
        raise ConfigurationError(
            f"{name} is no robot: without the operator nobody could look after the fleet. To "
            f"replace its key, remove {name}.key from the registry and {name}.secret and "
            f"{name}.public from the learner's keys; the next 'fleet enrol' makes a new one"
        )
    registry.revoke(name)
