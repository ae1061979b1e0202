"""``python -m learner --config learner.toml``: what ``ray submit`` and ``ray job submit`` run.

``python -m learner --offline STORE...`` trains on recorded stores alone.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

import psutil

INTERRUPTED_STATUS = 130


def main() -> None:
    """Run the command line; Ctrl-C before it has handlers of its own ends it with a word."""
    signal.signal(signal.SIGINT, lambda *_: _end_at_once())
    # Loaded only here: Ray takes seconds, in which a person may press Ctrl-C.
    from learner import command_line

    try:
        command_line.main()
    except KeyboardInterrupt:
        _end_at_once()


def _end_at_once() -> None:
    """End without unwinding: there is nothing yet, or nothing any more, that could be lost.

    An exception would be lost itself where it comes in the middle of an import. What Ray has
    started by then would end with this process, but some of it only after ten seconds.
    """
    os.write(sys.stderr.fileno(), b"\nlearner: interrupted\n")
    try:
        for started in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                started.kill()
    finally:
        os._exit(INTERRUPTED_STATUS)


if __name__ == "__main__":
    main()
