"""A target with a defect, to see that defects are found."""

from __future__ import annotations

from tests.fuzz.byte_mutation import mutate_bytes
from tests.fuzz.fuzz_target import FuzzTarget

_SECRET = b"ba"


def _run(data: bytes) -> str:
    known = next((at for at, byte in enumerate(_SECRET) if data[at : at + 1] != bytes([byte])), 2)
    if known == len(_SECRET):
        raise ZeroDivisionError("the defect")
    return f"{known} letters known"


DEFECTIVE = FuzzTarget(
    name="defective", prepare=lambda: _run, seeds=lambda: [b"x"], mutate=mutate_bytes, max_bytes=8
)
