"""TOML as plain tables: the fleet writes small files, and lays one over another."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protocol.errors import ConfigurationError

_SECTION = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?")
_LINE = re.compile(r"(?P<start>\s*(?P<key>[A-Za-z0-9_-]+)\s*=\s*)\S")


def toml_text(table: Mapping[str, Any], prefix: str = "") -> str:
    """Return ``table`` as TOML: plain values first, then one section per nested table.

    Strings, numbers, booleans and lists of them look the same in TOML as in JSON.
    """
    nested = {key: _tables(value) for key, value in table.items()}
    lines = [f"{key} = {_value_text(table[key])}" for key, tables in nested.items() if not tables]
    for key, tables in nested.items():
        name = f"{prefix}{key}"
        head = f"[{name}]" if isinstance(table[key], Mapping) else f"[[{name}]]"
        for section in tables:
            lines += ["", head, toml_text(section, prefix=f"{name}.").rstrip()]
    return "\n".join(lines).lstrip("\n") + "\n"


def load_table(path: Path) -> dict[str, Any]:
    """Read a TOML file without asking what its keys mean.

    Raises:
        ConfigurationError: it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from error


def laid_over(table: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``table`` with the values of ``above`` in place of its own, table by table."""
    merged = dict(table)
    for key, value in above.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = laid_over(below, value)
        else:
            merged[key] = value
    return merged


def edited(text: str, above: Mapping[str, Any]) -> str:
    """Return TOML with the values of ``above`` in place of its own, and all else as it is written.

    Only where a value has no line of its own to stand in is the whole written anew, without the
    comments.
    """
    before = tomllib.loads(text)
    wanted = laid_over(before, above)
    if wanted == before:
        return text
    section, lines = "", []
    for line in text.splitlines():
        if head := _SECTION.fullmatch(line):
            section = f"{head[1].strip()}."
        lines.append(_edited_line(line, section, before, wanted))
    in_place = "\n".join(lines) + "\n"
    try:
        is_right = tomllib.loads(in_place) == wanted
    except tomllib.TOMLDecodeError:  # a value of several lines
        is_right = False
    return in_place if is_right else toml_text(wanted)


def _edited_line(
    line: str, section: str, before: Mapping[str, Any], wanted: Mapping[str, Any]
) -> str:
    found = _LINE.match(line)
    if found is None:
        return line
    name = section + found["key"]
    new = _at(wanted, name)
    return line if new == _at(before, name) else found["start"] + _value_text(new)


def _at(table: Mapping[str, Any], name: str) -> object:
    """Return what stands under a dotted name; None where nothing does."""
    value: object = table
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _tables(value: object) -> list[Mapping[str, Any]]:
    """Return the tables that a value is, or is a list of; none of a plain value."""
    found = value if isinstance(value, list | tuple) else [value]
    return [one for one in found if isinstance(one, Mapping)]


def _value_text(value: object) -> str:
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)
