"""How commands speak: a console for people, JSON for scripts, an exit status for both."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

EXIT_ERROR = 1
EXIT_CONFIGURATION = 2
EXIT_NOT_WELL = 3
"""The answer is there, and somebody should look at it."""
_PIPE_COLUMNS = 160
_LINE_INTERVAL_S = 10.0


def console(*, stderr: bool = False) -> Console:
    """Return a console; where neither a terminal nor COLUMNS says how wide it is, it is wide."""
    found = Console(stderr=stderr)
    if found.is_terminal or "COLUMNS" in os.environ:
        return found
    return Console(stderr=stderr, width=_PIPE_COLUMNS)


def say(text: str) -> None:
    """Print a line; where it ends is the terminal's affair."""
    console().print(text, highlight=False, markup=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print what msgspec can encode, indented."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


@contextmanager
def progress_bar(what: str, *, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Show long work on stderr while it goes on; yield what is told how much of how much is done.

    Nothing is shown where stderr is no terminal.
    """
    screen = console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    is_shown = shown and screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=not is_shown) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show


@contextmanager
def progress_lines(what: str) -> Iterator[Callable[[int, int], None]]:
    """Say on stderr how far long work has come; yield what is told how much of how much is done.

    Where stderr is no terminal it is a line every ten seconds.
    """
    screen = console(stderr=True)
    said_s = float("-inf")
    with screen.status(what) as shown:

        def show(done: int, total: int) -> None:
            nonlocal said_s
            line = f"{what}: {done} of {total} attempts"
            shown.update(line)
            if not screen.is_terminal and time.monotonic() - said_s >= _LINE_INTERVAL_S:
                said_s = time.monotonic()
                screen.print(line, markup=False, highlight=False, soft_wrap=True)

        yield show
