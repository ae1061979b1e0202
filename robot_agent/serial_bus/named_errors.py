"""Which robot an error speaks of: a port knows only its path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from protocol.errors import GraspFleetError


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Put the robot's name before what goes wrong inside, if it is not there; the kind of error
    stays.
    """
    try:
        yield
    except GraspFleetError as error:
        if str(error).startswith((f"{name}: ", f"{name} ")):
            raise
        raise type(error)(f"{name}: {error}") from error
