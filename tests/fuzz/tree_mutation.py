"""Trees of MessagePack and JSON, mutated as trees, so that what is behind the parser is reached.

A map is kept as pairs: only so can it hold one key twice.
"""

from __future__ import annotations

import json
import math
import struct
from random import Random
from typing import Any

import msgpack

from tests.fuzz.byte_mutation import mutate_bytes

SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 31, 32, 127, 128, 255, 256, 4096, 65_535, 65_536),
    *(2**31, 2**32 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**31), -(2**63)),
    *(0.0, -0.0, 0.5, 1.0, -1.0, 1e-320, 1e308, math.nan, math.inf, -math.inf),
    *("", "a", "x" * 64, "x" * 513, "\n\x1b[31m", "\u0000", "\U0001f916", "../../x"),
    *(b"", b"\0", bytes(15), bytes(16), bytes(32), bytes(33), bytes(64), b"\xff" * 40),
)
BROKEN = (
    b"\xc1",  # never used
    b"\xdb\xff\xff\xff\xff",  # a string, an array, a map and an extension of four thousand million
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xa2\xc3\x28",  # not UTF-8
    b"\xd6\xff\x00\x00\x00\x01",  # a timestamp
    b"\xc7\x00\x05",
    b"\x91" * 600 + b"\xc0",  # nested deeper than any schema
    b"\x81\xa1a" * 300 + b"\xc0",
)


class Pairs(list[tuple[Any, Any]]):
    """A map."""


class Broken(bytes):
    """Bytes that stand in the place of a value as they are."""


def unpack(data: bytes) -> Any:
    """Read one MessagePack value; raise ValueError when it is none."""
    try:
        return msgpack.unpackb(
            data, object_pairs_hook=Pairs, strict_map_key=False, unicode_errors="surrogateescape"
        )
    except (msgpack.UnpackException, RecursionError, TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error


def pack(tree: Any) -> bytes:
    """Write a tree as MessagePack; raise ValueError when it is too deep for that."""
    try:
        return _packed(tree)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def _packed(node: Any) -> bytes:
    if isinstance(node, Broken):
        return bytes(node)
    if isinstance(node, Pairs):
        head = struct.pack(">BI", 0xDF, len(node)) if len(node) > 15 else bytes([0x80 | len(node)])
        return head + b"".join(_packed(key) + _packed(value) for key, value in node)
    if isinstance(node, list):
        head = struct.pack(">BI", 0xDD, len(node)) if len(node) > 15 else bytes([0x90 | len(node)])
        return head + b"".join(map(_packed, node))
    return bytes(msgpack.packb(node, unicode_errors="surrogateescape"))


def mutate_msgpack(data: bytes, random: Random) -> bytes:
    """Return a neighbour of a MessagePack value; raise ValueError when it is none."""
    return pack(mutate_tree(unpack(data), random))


def mutate_json(text: bytes, random: Random) -> bytes:
    """Return a neighbour of a JSON text; raise ValueError when it is none."""
    tree = json.loads(text, object_pairs_hook=Pairs)
    return _json_text(mutate_tree(tree, random)).encode("utf-8", "surrogateescape")


def mutate_tree(tree: Any, random: Random) -> Any:
    """Change one to three places of a tree."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        tree = _mutate_somewhere(tree, tree, random)
    return tree


def _mutate_somewhere(node: Any, whole: Any, random: Random) -> Any:
    """Walk down at random and change what is there."""
    if isinstance(node, Broken) or not isinstance(node, list) or not node or random.random() < 0.25:
        return _mutated(node, whole, random)
    at = random.randrange(len(node))
    changed = type(node)(node)
    if isinstance(node, Pairs):
        key, value = node[at]
        changed[at] = (key, _mutate_somewhere(value, whole, random))
    else:
        changed[at] = _mutate_somewhere(node[at], whole, random)
    return changed


def _mutated(node: Any, whole: Any, random: Random) -> Any:
    kind = random.randrange(12)
    if kind == 0:
        return Broken(random.choice(BROKEN))
    if kind == 1:
        return _any_node(whole, random)
    if kind == 2:
        return [node] * random.choice((1, 2, 17))
    if isinstance(node, Pairs):
        return _mutated_pairs(node, whole, random)
    if isinstance(node, list):
        return _mutated_list(node, whole, random)
    if kind < 8:
        return _neighbour(node, random)
    return random.choice(SCALARS)


def _mutated_pairs(pairs: Pairs, whole: Any, random: Random) -> Pairs:
    changed = Pairs(pairs)
    kind = random.randrange(4)
    if pairs and kind == 0:
        del changed[random.randrange(len(changed))]
    elif pairs and kind == 1:
        # Twice the same key, with the same value or another.
        key, value = random.choice(changed)
        changed.append((key, random.choice((value, _any_node(whole, random)))))
    elif pairs and kind == 2:
        at = random.randrange(len(changed))
        changed[at] = (random.choice(SCALARS), changed[at][1])
    else:
        changed.append((random.choice(SCALARS), _any_node(whole, random)))
    return changed


def _mutated_list(items: list[Any], whole: Any, random: Random) -> list[Any]:
    changed = list(items)
    kind = random.randrange(4)
    if items and kind == 0:
        del changed[random.randrange(len(changed))]
    elif items and kind == 1:
        changed = changed + changed[-1:] * random.choice((1, 2, 300))
    elif items and kind == 2:
        random.shuffle(changed)
    else:
        changed.insert(random.randrange(len(changed) + 1), _any_node(whole, random))
    return changed


def _neighbour(value: Any, random: Random) -> Any:
    if isinstance(value, bool) or value is None:
        return random.choice(SCALARS)
    if isinstance(value, int):
        return max(-(2**63), min(2**64 - 1, value + random.choice((-1, 1, -256, 256, value))))
    if isinstance(value, float):
        return random.choice((-value, value * 2, value * 1e300, value + 1))
    if isinstance(value, str):
        changed = mutate_bytes(value.encode("utf-8", "surrogateescape"), random)
        return changed.decode("utf-8", "surrogateescape")
    return mutate_bytes(bytes(value), random) if isinstance(value, bytes) else value


def _any_node(tree: Any, random: Random) -> Any:
    while isinstance(tree, list) and tree and random.random() < 0.7:
        tree = random.choice(tree)
        if isinstance(tree, tuple):
            tree = random.choice(tree)
    return tree


def _json_text(node: Any) -> str:
    if isinstance(node, Pairs):
        inside = (f"{json.dumps(str(key))}:{_json_text(value)}" for key, value in node)
        return "{" + ",".join(inside) + "}"
    if isinstance(node, bytes):
        return node.decode("latin-1") if isinstance(node, Broken) else json.dumps(node.hex())
    if isinstance(node, list):
        return "[" + ",".join(map(_json_text, node)) + "]"
    return json.dumps(node)
