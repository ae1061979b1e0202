"""One thing that somebody should look at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LEARNER = "learner"


class Severity(StrEnum):
    """How soon somebody should look; the first one first."""

    CRITICAL = "critical"
    WARNING = "warning"
    NOTE = "note"
    """Nobody can do anything about it any more: it is shown, and the fleet is well all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Concern:
    """What was found, and what to do about it."""

    about: str
    """The robot, or LEARNER."""
    severity: Severity
    says: str
    """What was found, with its figures."""
    remedy: str
    """What to do first; "" where ``says`` tells."""

    @property
    def is_note(self) -> bool:
        """The exit status does not tell of it."""
        return self.severity == Severity.NOTE

    def __str__(self) -> str:
        return f"{self.about}: {self.says}" + (f"; {self.remedy}" if self.remedy else "")


def critical(about: str, says: str, remedy: str = "") -> Concern:
    """Return what cannot wait."""
    return Concern(about=about, severity=Severity.CRITICAL, says=says, remedy=remedy)


def warning(about: str, says: str, remedy: str = "") -> Concern:
    """Return what somebody should look at today."""
    return Concern(about=about, severity=Severity.WARNING, says=says, remedy=remedy)


def note(about: str, says: str, remedy: str = "") -> Concern:
    """Return what was told long enough."""
    return Concern(about=about, severity=Severity.NOTE, says=says, remedy=remedy)
