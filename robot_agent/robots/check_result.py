"""CheckResult: what one look at one part of a robot found, and what to do about it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """The robot can work, and somebody should look at it."""
    FAIL = "fail"
    """The robot cannot work, or must not."""


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the doctor's table."""

    subject: str
    """What was looked at, in a word or two: ``servo 3``, ``voltage``."""
    verdict: Verdict
    finding: str
    """What was found, with figures and units, and the limit where there is one."""
    remedy: str = ""
    """What a person does about it; "" only where all is well."""


def ok(subject: str, finding: str) -> CheckResult:
    """Return that all is well."""
    return CheckResult(subject=subject, verdict=Verdict.OK, finding=finding)


def warn(subject: str, finding: str, remedy: str) -> CheckResult:
    """Return that somebody should look at it."""
    return CheckResult(subject=subject, verdict=Verdict.WARN, finding=finding, remedy=remedy)


def fail(subject: str, finding: str, remedy: str) -> CheckResult:
    """Return that the robot cannot work like this."""
    return CheckResult(subject=subject, verdict=Verdict.FAIL, finding=finding, remedy=remedy)
