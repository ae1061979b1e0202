"""Whole conversations as one input: a MessagePack array of messages, each with its bodies.

    [who: int, header: map or bytes, bodies: array of bytes], ...

A header stands there as a map, so that a mutation of the whole reaches into every message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import msgpack
import msgspec

from protocol.codec import encode_message
from protocol.errors import RejectedMessageError
from tests.fuzz.record_targets import mutate_record
from tests.fuzz.tree_mutation import Pairs, mutate_tree, pack, unpack

MAX_MESSAGES = 16
_RIGHT_DIGEST = bytes(32)
"""Stands for the digest of the body, which no mutation would find."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message of a conversation."""

    who: int
    header: bytes
    bodies: list[bytes]


def written(*turns: tuple[int, msgspec.Struct, list[bytes]]) -> bytes:
    """Return the input that says this."""
    return bytes(
        msgpack.packb(
            [(who, msgpack.unpackb(encode_message(said)), bodies) for who, said, bodies in turns]
        )
    )


def turns_of(data: bytes) -> Iterator[Turn]:
    """Yield the messages of an input, the first few.

    Raises:
        RejectedMessageError: it is no conversation.
    """
    try:
        tree = unpack(data)
    except ValueError as error:
        raise RejectedMessageError("no conversation") from error
    if not isinstance(tree, list):
        raise RejectedMessageError("no conversation")
    for turn in tree[:MAX_MESSAGES]:
        if isinstance(turn, list) and len(turn) == 3:
            who, header, bodies = turn
            parts = bodies if isinstance(bodies, list) else []
            found = [body for body in parts if isinstance(body, bytes)]
            try:
                written_header = _header(header, found)
            except ValueError as error:
                raise RejectedMessageError("no conversation") from error
            yield Turn(who=who if isinstance(who, int) else 0, header=written_header, bodies=found)


def mutate_conversation(data: bytes, random: Random) -> bytes:
    """Change anything in it, or one body as the episode record that it is."""
    tree = unpack(data)
    if random.random() < 0.3:
        turn = random.choice([turn for turn in tree if turn[2]] or tree)
        if turn[2]:
            turn[2][0] = mutate_record(turn[2][0], random)
            return pack(tree)
    return pack(mutate_tree(tree, random))


def _header(header: object, bodies: list[bytes]) -> bytes:
    if isinstance(header, bytes):
        return header
    if isinstance(header, Pairs) and bodies:
        right = hashlib.sha256(bodies[0]).digest()
        header = Pairs(
            (key, right if key == "digest" and value == _RIGHT_DIGEST else value)
            for key, value in header
        )
    return pack(header)
