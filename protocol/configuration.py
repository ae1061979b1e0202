"""TOML files into frozen dataclasses: one file per process, no unknown key, no silent default.

Ranges stand as ``msgspec.Meta`` on the field; relative paths are taken from the file's folder.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from protocol.errors import ConfigurationError
from protocol.limits import EPISODE_LIMITS

_MOST = 2**53
"""Of any count: what every message and every reader of JSON holds exactly."""
_LARGEST = 1e9
"""Of any measure. As seconds it is thirty years, and still less than a thread can wait."""

PositiveInt = Annotated[int, msgspec.Meta(gt=0, le=_MOST)]
NonNegativeInt = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
PositiveFloat = Annotated[float, msgspec.Meta(gt=0, le=_LARGEST)]
NonNegativeFloat = Annotated[float, msgspec.Meta(ge=0, le=_LARGEST)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""What TOML can write, which NumPy and torch both take."""
Baud = Annotated[int, msgspec.Meta(ge=1200, le=4_000_000)]
PictureSide = Annotated[int, msgspec.Meta(ge=8, le=EPISODE_LIMITS.image_side_px)]
"""Pixels, from the least that a release may ask for to the most that the learner takes."""

T = TypeVar("T")


def load_toml(path: Path, into: type[T]) -> T:
    """Read one TOML file into a frozen dataclass tree.

    Raises:
        ConfigurationError: the file is missing or unreadable, a key is unknown (the nearest known
            name is given), a value has the wrong type, is out of range or not finite.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from error
    return from_table(table, into, name=str(path), folder=path.resolve().parent)


def refuse_repeated_options(arguments: Sequence[str]) -> None:
    """Refuse a command line that gives an option twice: argparse would forget the first one.

    Raises:
        ConfigurationError: of two values only the last would count.
    """
    given = [one.partition("=")[0] for one in arguments if one.startswith("--") and one != "--"]
    for option in given:
        if given.count(option) > 1:
            raise ConfigurationError(
                f"{option} is given twice, and only the last would count; where it takes several "
                f"values they follow one {option}"
            )


def from_table(table: dict[str, Any], into: type[T], *, name: str, folder: Path) -> T:
    """Turn a parsed table into ``into``; ``name`` is what an error calls the table."""
    _refuse_unknown(table, into, name, prefix="")
    _refuse_not_finite(table, name)

    def decode(kind: type[Any], value: object) -> object:
        if kind is Path and isinstance(value, str):
            return folder / Path(value).expanduser()
        raise TypeError(f"expected {kind.__name__}, got {value!r}")

    try:
        return msgspec.convert(table, into, dec_hook=decode)
    except msgspec.ValidationError as error:
        where = re.sub(r" - at `\$\.?(.*)`$", r" (at \1)", str(error))
        choices = _choices_at(into, str(error)) if "Invalid enum value" in str(error) else ""
        raise ConfigurationError(f"{name}: {where}{choices}") from error


def _choices_at(into: object, error: str) -> str:
    """Return what may stand at the place that an error names."""
    hint: object = into
    for key in re.findall(r"[$.]\.?(\w+)", error.rpartition(" - at ")[2]):
        hint = typing.get_type_hints(_dataclass_in(hint) or object).get(key)
    choices = [repr(one) for one in typing.get_args(hint) if isinstance(one, str)]
    return f"; choose {' or '.join(choices)}" if choices else ""


def _refuse_unknown(table: dict[str, Any], into: object, name: str, prefix: str) -> None:
    hints = typing.get_type_hints(into)
    for key, value in table.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.5)
            known = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(hints)}"
            raise ConfigurationError(f"{name}: unknown key {prefix + key!r}; {known}")
        inner = _dataclass_in(hints[key])
        for one in value if isinstance(value, list) else [value]:
            if inner is not None and isinstance(one, dict):
                _refuse_unknown(one, inner, name, prefix=f"{prefix}{key}.")


def _refuse_not_finite(value: object, name: str, where: str = "") -> None:
    """TOML knows nan and inf; a range keeps out neither nan nor, open at one end, inf."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{name}: {where} is {value}, which is not finite")
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for key, one in value.items():
            _refuse_not_finite(one, name, f"{where}.{key}".lstrip("."))


def _dataclass_in(hint: object) -> type | None:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    if isinstance(hint, types.UnionType):
        return next((_dataclass_in(part) for part in typing.get_args(hint)), None)
    return None
