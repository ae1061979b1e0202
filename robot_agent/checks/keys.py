"""Are the keys there, kept to their owner, of the right kind, and do they belong together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from protocol.errors import AuthenticationError, ConfigurationError
from protocol.key_files import credential_of
from protocol.key_notice import notice_beside, read_key_notice, verify_key_notice
from protocol.security import load_curve_keys, load_curve_public, load_release_public
from robot_agent.config import AgentConfig
from robot_agent.robots.check_result import CheckResult, fail, ok, warn

_BUNDLE = "copy the robot's bundle to it again; 'fleet enrol' on the learner's machine makes it"


def check_keys(config: AgentConfig) -> Iterator[CheckResult]:
    """Read every key file as the agent would."""
    yield _secret(config)
    yield _of_learner(config)
    yield _of_releases(config)


def _secret(config: AgentConfig) -> CheckResult:
    subject = "key of the robot"
    try:
        keys = load_curve_keys(credential_of(config.secret_key))
    except ConfigurationError as error:
        return fail(subject, str(error), _BUNDLE)
    beside = config.secret_key.with_suffix(".public")
    try:
        if beside.exists() and load_curve_public(beside) != keys.public:
            return warn(subject, f"{beside} belongs to another secret key", _BUNDLE)
    except (ConfigurationError, OSError) as error:
        return warn(subject, str(error), _BUNDLE)
    return ok(subject, f"{keys.public.decode()[:8]}…, kept to its owner")


def _of_learner(config: AgentConfig) -> CheckResult:
    subject = "key of the learner"
    path = config.learner.public_key
    try:
        public = load_curve_public(path)
    except ConfigurationError as error:
        return fail(subject, str(error), _BUNDLE)
    if public == _own_public(config.secret_key):
        return fail(subject, f"{path} is this robot's own public key", _BUNDLE)
    return ok(subject, f"{public.decode()[:8]}…")


def _of_releases(config: AgentConfig) -> CheckResult:
    subject = "key of releases"
    try:
        key = load_release_public(config.learner.release_key)
        notice = read_key_notice(notice_beside(config.learner.public_key))
        if notice is not None:
            verify_key_notice(notice, key)
    except (ConfigurationError, AuthenticationError) as error:
        return fail(subject, str(error), _BUNDLE)
    return ok(subject, f"Ed25519, {config.learner.release_key}")


def _own_public(secret_key: Path) -> bytes:
    try:
        return load_curve_keys(credential_of(secret_key)).public
    except ConfigurationError:
        return b""
