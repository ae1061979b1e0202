"""Which motor it is, and where it counts its angles from: what a calibration was measured with.

A motor that was changed, or whose zero was set anew, reads other angles at the same place. An arm
that believed them would go where nobody expects it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Protocol, runtime_checkable

import msgspec

from protocol.errors import ConfigurationError
from robot_agent.arms.servo_group import ServoGroup

_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class ServoIdentity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a motor keeps without power, as far as its angles depend on it."""

    servo_id: _Byte
    model: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    """The maker's number of it."""
    homing_offset: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
    """Counts, by which it shifts what its sensor reads."""
    drive_mode: _Byte = 0
    """Of a Dynamixel: among others which way it counts."""

    def changes_to(self, found: ServoIdentity) -> Iterator[str]:
        """Yield in words what is different in ``found``."""
        for field in self.__struct_fields__:
            before, now = getattr(self, field), getattr(found, field)
            if now != before:
                yield f"{field.replace('_', ' ')} {now} instead of {before}"


@runtime_checkable
class IdentifiedServos(Protocol):
    """A ServoGroup whose motors say which ones they are."""

    def identities(self) -> tuple[ServoIdentity, ...]:
        """Read what each one keeps, in the group's order.

        Raises:
            RobotError: a motor does not answer, or the cable is out.
        """
        ...


def identities(servos: ServoGroup) -> tuple[ServoIdentity, ...]:
    """Return what the motors say of themselves; nothing of a group that cannot tell."""
    return servos.identities() if isinstance(servos, IdentifiedServos) else ()


def check_identities(
    calibrated: tuple[ServoIdentity, ...], servos: ServoGroup, names: list[str]
) -> None:
    """See that the motors are those that were calibrated, and count from where they did.

    Args:
        calibrated: what they said then; nothing where nobody asked.
        servos: the motors; a group that cannot tell is taken as it is.
        names: of what they move, in the same order.

    Raises:
        ConfigurationError: one is another, or counts otherwise.
        RobotError: a motor does not answer.
    """
    if not calibrated or not isinstance(servos, IdentifiedServos):
        return
    for name, before, now in zip(names, calibrated, servos.identities(), strict=True):
        changes = ", ".join(before.changes_to(now))
        if changes:
            raise ConfigurationError(
                f"{name}: its servo {before.servo_id} is not the one that was calibrated, or its "
                f"zero was set anew ({changes}); the arm does not move by it: run `robot-agent "
                "calibrate`"
            )
