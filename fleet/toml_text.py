"""Writes the small TOML files that the fleet makes; the standard library only reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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


def _value_text(value: object) -> str:
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)
