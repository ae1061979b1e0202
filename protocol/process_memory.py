"""What this process holds in memory of its own: not what it maps of files."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

_ANONYMOUS = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)


def anonymous_bytes() -> int:
    """Return the resident bytes that stand behind no file."""
    found = _ANONYMOUS.search(Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) * 1024 if found else 0


def give_back_freed() -> None:
    """Return to the system what was freed; glibc would keep hundreds of megabytes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
