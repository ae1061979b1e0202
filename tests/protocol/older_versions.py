"""What a peer of wire version 1 understands: its definitions, frozen as data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

_DEFINITIONS = json.loads((Path(__file__).parent / "golden/wire-v1-definitions.json").read_text())
_KINDS = {
    "int": int,
    "float": (float, int),
    "str": str,
    "bin": bytes,
    "bool": bool,
    "array": list,
    "map": dict,
    "nil": type(None),
}


def complaints(header: bytes, direction: str) -> list[str]:
    """Return why a peer of version 1 would refuse a header; empty when it would not.

    Args:
        header: a header frame.
        direction: ``FromGateway`` and the like.
    """
    message = msgpack.unpackb(header)
    name = message.pop("type")
    if name not in _DEFINITIONS["messages"][direction]:
        return [f"no message {name!r}"]
    return list(_complaints_of(message, name))


def _complaints_of(fields: dict[str, Any], name: str) -> Iterator[str]:
    known = _DEFINITIONS["types"][name]
    if name not in _DEFINITIONS["open_types"]:
        yield from (f"{name}.{field} is unknown" for field in fields.keys() - known.keys())
    for field, definition in known.items():
        if field in fields:
            yield from _complaints_of_value(fields[field], definition["type"], f"{name}.{field}")
        elif definition["default"] == "required":
            yield f"{name}.{field} is missing"


def _complaints_of_value(value: Any, kind: str, where: str) -> Iterator[str]:
    if kind in _DEFINITIONS["types"]:
        yield from _complaints_of(value, kind)
        return
    kinds = [one.split()[0].split("[")[0] for one in kind.split(" or ")]
    if not any(isinstance(value, _KINDS[one]) for one in kinds):
        yield f"{where} is {value!r}, not {kind}"
    elif isinstance(value, list):
        for item in value:
            yield from _complaints_of_value(item, kind.split(" of ", 1)[1], where)
