"""TOML as plain tables: the fleet writes small files, and lays one over another."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protocol.errors import ConfigurationError


def toml_text(table: Mapping[str, Any], prefix: str = "") -> str:
    """Return ``table`` as TOML: plain values first, then one section per nested table.

    Strings, numbers, booleans and lists of them look the same in TOML as in JSON.
    """
    values = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    sections = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    lines = [f"{key} = {_value_text(value)}" for key, value in values.items()]
    for key, section in sections.items():
        name = f"{prefix}{key}"
        lines += ["", f"[{name}]", toml_text(section, prefix=f"{name}.").rstrip()]
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


def _value_text(value: object) -> str:
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)
