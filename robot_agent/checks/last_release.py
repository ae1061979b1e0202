"""The release that the robot would begin with: is it whole, and signed by the key of the bundle."""

from __future__ import annotations

from collections.abc import Iterator

from protocol.errors import ConfigurationError, RejectedReleaseError
from protocol.release import Release, unpack_release
from protocol.security import load_release_public
from robot_agent.config import AgentConfig
from robot_agent.releases.last_good import FILE_NAME
from robot_agent.robots.check_result import CheckResult, ok, warn


def check_release(config: AgentConfig) -> Iterator[CheckResult]:
    """Verify the release on the robot's disk, if there is one."""
    subject = "release"
    path = config.state_folder / FILE_NAME
    try:
        release = _read(config)
    except FileNotFoundError:
        yield ok(subject, "none yet: the robot begins at random until the learner sends one")
    except (OSError, ConfigurationError, RejectedReleaseError) as error:
        yield warn(
            subject,
            f"{path} cannot be used: {error}",
            f"remove {path} when the learner's keys were made anew; the learner sends another",
        )
    else:
        yield ok(subject, f"release {release.manifest.version}, signed by the key of the bundle")


def last_release(config: AgentConfig) -> Release | None:
    """Return the release on the robot's disk; None where there is none that can be used."""
    try:
        return _read(config)
    except (OSError, ConfigurationError, RejectedReleaseError):
        return None


def _read(config: AgentConfig) -> Release:
    data = (config.state_folder / FILE_NAME).read_bytes()
    return unpack_release(data, load_release_public(config.learner.release_key))
