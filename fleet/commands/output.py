"""How commands speak: a console for people, JSON for scripts, an exit status for both."""

from __future__ import annotations

import msgspec
from rich.console import Console

EXIT_ERROR = 1
EXIT_CONFIGURATION = 2
_PIPE_COLUMNS = 160


def console(*, stderr: bool = False) -> Console:
    """Return a console; where no terminal says how wide it is, tables may be wide."""
    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=_PIPE_COLUMNS)


def print_json(value: object) -> None:
    """Print what msgspec can encode, indented."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
