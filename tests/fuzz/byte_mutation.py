"""Neighbours of a string of bytes: what any fuzzer does, for formats that are no trees."""

from __future__ import annotations

from random import Random

_INTERESTING = (
    *(b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff", b"\x00\x00", b"\xff\xff\xff\xff"),
    *(b"\x00\x00\x00\x80", b"\xff" * 8, b"\x80" * 10, b"\xff\xd8", b"\xff\xd9", b"\xff\xc2"),
)


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Change one to four places."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        _mutate_once(changed, random)
    return bytes(changed)


def _mutate_once(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    end = min(len(data), at + random.choice((1, 1, 2, 4, 8, 64, 1024)))
    kind = random.randrange(7)
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << random.randrange(8)
    elif kind == 1 and data:
        data[at % len(data)] = random.randrange(256)
    elif kind == 2:
        data[at:at] = random.choice(_INTERESTING)
    elif kind == 3:
        piece = random.choice(_INTERESTING)
        data[at : at + len(piece)] = piece
    elif kind == 4:
        del data[at:end]
    elif kind == 5:
        data[at:at] = data[at:end]
    elif random.random() < 0.2:
        del data[at:]
    else:
        source = random.randrange(len(data) + 1)
        data[at:end] = data[source : source + end - at]
