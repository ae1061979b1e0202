"""What peers of older wire versions understand: their definitions, frozen as data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

DEFINITIONS: dict[int, dict[str, Any]] = {
    version: json.loads(
        (Path(__file__).parent / f"golden/wire-v{version}-definitions.json").read_text()
    )
    for version in (1, 2, 3, 4)
}
"""By wire version, oldest first."""
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


def complaints(header: bytes, direction: str, version: int) -> list[str]:
    """Return why a peer of an older version would refuse a header; empty when it would not.

    Args:
        header: a header frame.
        direction: ``FromGateway`` and the like.
        version: what the peer speaks.
    """
    message = msgpack.unpackb(header)
    name = message.pop("type")
    definitions = DEFINITIONS[version]
    if name not in definitions["messages"][direction]:
        return [f"no message {name!r}"]
    return list(_complaints_of(message, name, definitions))


def _complaints_of(fields: dict[str, Any], name: str, definitions: dict[str, Any]) -> Iterator[str]:
    known = definitions["types"][name]
    if name not in definitions["open_types"]:
        yield from (f"{name}.{field} is unknown" for field in fields.keys() - known.keys())
    for field, definition in known.items():
        if field in fields:
            yield from _complaints_of_value(
                fields[field], definition["type"], f"{name}.{field}", definitions
            )
        elif definition["default"] == "required":
            yield f"{name}.{field} is missing"


def _complaints_of_value(
    value: Any, kind: str, where: str, definitions: dict[str, Any]
) -> Iterator[str]:
    types = definitions["types"].keys() & set(kind.split(" or "))
    if types and isinstance(value, dict):
        yield from _complaints_of(value, types.pop(), definitions)
        return
    kinds = [one.split()[0].split("[")[0] for one in kind.split(" or ")]
    if not any(isinstance(value, _KINDS.get(one, ())) for one in kinds):
        yield f"{where} is {value!r}, not {kind}"
    elif isinstance(value, list):
        for item in value:
            yield from _complaints_of_value(item, kind.split(" of ", 1)[1], where, definitions)
