"""Reads docs/protocol.md: its field tables, its examples, its tables of limits and codes.

Also says of the code what the document must say of it, in the document's own notation.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgpack
import msgspec
from msgspec import inspect

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "docs" / "protocol.md"

Row = dict[str, str]

_HEADING = re.compile(r"^#{2,5} (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]*)`")
_POWERS = {2**power: f"2^{power}" for power in range(16, 64)}


@dataclass(frozen=True, kw_only=True)
class Section:
    """What stands between one heading and the next."""

    title: str
    text: str

    @property
    def name(self) -> str:
        """The first word of the title that is set as code; "" if there is none."""
        found = _CODE.search(self.title)
        return found[1] if found else ""

    def rows(self) -> list[Row]:
        """The rows of the section's first table, by the heads of its columns."""
        lines = [line for line in self.text.splitlines() if line.startswith("|")]
        if not lines:
            return []
        head, _, *body = (_cells(line) for line in lines)
        return [dict(zip(head, cells, strict=True)) for cells in body if len(cells) == len(head)]

    def blocks(self, kind: str) -> list[str]:
        """The fenced blocks of one kind, such as ``json``."""
        return [content for found, content in BLOCK.findall(self.text) if found == kind]

    def hex(self) -> bytes:
        """The bytes of the section's hex block; comments after ``#`` are left out."""
        (block,) = self.blocks("hex")
        return bytes.fromhex(re.sub(r"#.*", "", block))

    def json(self) -> Any:
        """The section's JSON block."""
        (block,) = self.blocks("json")
        return json.loads(block)


def sections() -> list[Section]:
    """Take the document apart."""
    return _sections_of(DOCUMENT.read_text())


@cache
def _sections_of(text: str) -> list[Section]:
    # A line of a fenced block may look like a heading.
    masked = BLOCK.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)
    heads = list(_HEADING.finditer(masked))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return [
        Section(title=head[1], text=text[head.end() : end])
        for head, end in zip(heads, ends, strict=True)
    ]


def section(title: str) -> Section:
    """Return the one section whose title is, or whose code word is, ``title``."""
    found = [one for one in sections() if title in (one.title, one.name)]
    assert len(found) == 1, f"docs/protocol.md has {len(found)} sections for {title!r}"
    return found[0]


def code_words(cell: str) -> list[str]:
    """Return what is set as code in a cell."""
    return _CODE.findall(cell)


def readable(value: Any) -> Any:
    """Return a decoded MessagePack value as the document shows it in JSON."""
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, dict):
        return {key: readable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [readable(item) for item in value]
    return value


def packable(value: Any) -> Any:
    """Return what a JSON block of the document stands for; the reverse of ``readable``."""
    if isinstance(value, str) and value.startswith("0x"):
        return bytes.fromhex(value[2:])
    if isinstance(value, dict):
        return {key: packable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [packable(item) for item in value]
    return value


def as_text(value: Any) -> str:
    """Return JSON text that tells 1 from 1.0, and keeps the order of keys."""
    return json.dumps(value, ensure_ascii=False)


def reference_decode(data: bytes) -> Any:
    """Decode MessagePack with the reference implementation, as the document shows it."""
    return readable(msgpack.unpackb(data))


def name_of(kind: type[msgspec.Struct]) -> str:
    """Return what the document calls a type: its tag, or the name of its class."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return str(info.tag) if info.tag is not None else kind.__name__.removesuffix("Meta")


def field_rows(kind: type[msgspec.Struct]) -> list[Row]:
    """Return field, type and default of every field, as the document must state them."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return [
        {"field": field.encode_name, "type": type_text(field.type), "default": _default(field)}
        for field in info.fields
    ]


def nested(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """Yield a type and every other that its fields hold, at any depth."""
    yield kind
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        for inner in _structs(field.type):
            yield from nested(inner)


def type_text(kind: inspect.Type) -> str:
    """Return a type in the document's notation."""
    match kind:
        case inspect.IntType() | inspect.FloatType():
            word = "int" if isinstance(kind, inspect.IntType) else "float"
            low = _count(kind.ge) if kind.gt is None else f"above {_number(kind.gt)}"
            return _ranged(word, low, _count(kind.le))
        case inspect.StrType() | inspect.BytesType():
            word = "str" if isinstance(kind, inspect.StrType) else "bin"
            text = _ranged(word, _count(kind.min_length), _count(kind.max_length))
            # Python's way to say that not even a line end may follow.
            pattern = (getattr(kind, "pattern", None) or "").replace(r"\Z", "$")
            return f"{text} {pattern}".rstrip()
        case inspect.ListType():
            ends = _ranged("", _count(kind.min_length), _count(kind.max_length)).strip()
            return f"array{f'[{ends}]' if ends else ''} of {type_text(kind.item_type)}"
        case inspect.DictType():
            return f"map of {type_text(kind.key_type)} to {type_text(kind.value_type)}"
        case inspect.UnionType():
            return " or ".join(type_text(one) for one in kind.types)
        case inspect.StructType():
            return name_of(kind.cls)
        case inspect.EnumType():
            return "one of " + " ".join(member.value for member in kind.cls)
        case inspect.BoolType():
            return "bool"
        case inspect.NoneType():
            return "nil"
    raise AssertionError(f"the document has no word for {kind}")


def constant(dotted: str) -> Any:
    """Return what a dotted name such as ``protocol.limits.MAX_HEADER_BYTES`` stands for.

    The name of a dataclass's field stands for its default.
    """
    parts = dotted.split(".")
    is_in_a_room = (ROOT / parts[0] / parts[1]).is_dir()
    depth = 3 if is_in_a_room else 2
    value: Any = importlib.import_module(".".join(parts[:depth]))
    for part in parts[depth:]:
        is_class = isinstance(value, type)
        value = value.__dataclass_fields__[part].default if is_class else getattr(value, part)
    return value


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _structs(kind: inspect.Type) -> Iterator[type[msgspec.Struct]]:
    match kind:
        case inspect.StructType():
            yield kind.cls
        case inspect.ListType():
            yield from _structs(kind.item_type)
        case inspect.DictType():
            yield from _structs(kind.value_type)
        case inspect.UnionType():
            for one in kind.types:
                yield from _structs(one)


def _ranged(word: str, low: str, high: str) -> str:
    if not low and not high:
        return word
    return f"{word} {low if low == high else f'{low}..{high}'}"


def _count(number: float | None) -> str:
    return "" if number is None else _number(number)


def _number(value: float) -> str:
    if isinstance(value, int) and abs(value) >= 2**16:
        return _POWERS.get(value) or f"{_POWERS[value + 1]}-1"
    return re.sub(r"e\+0*", "e", f"{value:g}")


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT:
        return as_text(field.default_factory())
    if isinstance(field.default, bytes):
        return "empty"
    return "nil" if field.default is None else as_text(field.default)
