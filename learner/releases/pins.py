"""Which release the operator wants where: a small file beside the releases."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from protocol.errors import ConfigurationError
from protocol.key_files import PUBLIC_MODE, write_over

logger = logging.getLogger(__name__)

WHOLE_FLEET = ""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of the file."""

    number: int = 0
    """Of the last change; orders carry it."""
    versions: dict[str, int] = {}
    """Robot -> version; "" is the whole fleet."""


class ReleasePins:
    """The pins of one fleet. Any thread may ask; changes are the caller's to serialise."""

    def __init__(self, file: Path) -> None:
        """Begin without pins; ``load`` reads the file."""
        self._file = file
        self._table = _Table()

    def load(self) -> None:
        """Read the file, if there is one.

        Raises:
            ConfigurationError: it cannot be read or is damaged. To go on without pins would send
                the fleet to a release that the operator did not want.
        """
        try:
            self._table = msgspec.json.decode(self._file.read_bytes(), type=_Table)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigurationError(
                f"pins of releases {self._file}: {error}; mend the file, or remove it to let "
                "every robot use the newest release"
            ) from error

    @property
    def number(self) -> int:
        """Of the last change; 0 when nothing was ever pinned."""
        return self._table.number

    @property
    def versions(self) -> Mapping[str, int]:
        """Robot -> version; "" is the whole fleet."""
        return self._table.versions

    def version_for(self, robot_id: str) -> int:
        """Return what this robot is pinned to, by its own pin or else the fleet's; 0 for none."""
        versions = self._table.versions
        return versions.get(robot_id) or versions.get(WHOLE_FLEET, 0)

    def change(self, robot_id: str, version: int) -> None:
        """Pin a robot or the whole fleet; 0 takes the pin away. It is on disk on return.

        Raises:
            ConfigurationError: the file cannot be written; nothing is changed.
        """
        versions = {name: v for name, v in self._table.versions.items() if name != robot_id}
        if version:
            versions[robot_id] = version
        # A learner that lost this file still counts on from above what its robots have obeyed.
        number = max(self._table.number + 1, time.time_ns() // 1_000_000)
        table = _Table(number=number, versions=versions)
        write_over(self._file, msgspec.json.encode(table), mode=PUBLIC_MODE)
        self._table = table
        logger.info(
            "%s: %s",
            robot_id or "the whole fleet",
            f"pinned to release {version}" if version else "no longer pinned",
        )
