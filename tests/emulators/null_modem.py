"""Two serial ports and a cable between them: for programs that insist on a port of their own."""

from __future__ import annotations

import os
import select
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import PATIENCE_S


@contextmanager
def null_modem() -> Iterator[tuple[Path, Path]]:
    """Yield the paths of both ends; bytes written to one come out of the other."""
    pairs = [os.openpty() for _ in range(2)]
    for _, far in pairs:
        tty.setraw(far)
    (one, _), (two, _) = pairs
    done = threading.Event()
    cable = threading.Thread(target=_carry, args=(one, two, done), daemon=True)
    cable.start()
    try:
        yield Path(os.ttyname(pairs[0][1])), Path(os.ttyname(pairs[1][1]))
    finally:
        done.set()
        cable.join(PATIENCE_S)
        for end in (end for pair in pairs for end in pair):
            os.close(end)


def _carry(one: int, two: int, done: threading.Event) -> None:
    other = {one: two, two: one}
    while not done.is_set():
        for end in select.select([one, two], [], [], 0.05)[0]:
            os.write(other[end], os.read(end, 4096))
