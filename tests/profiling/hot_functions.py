"""Where the time of a profile went: by thread, and by function within it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WAITS = {"Poller.poll", "Condition.wait", "Event.wait", "EpollSelector.select", "sleep"}
"""py-spy cannot always tell that these wait."""


@dataclass(frozen=True, kw_only=True)
class HotFunction:
    """One function on one thread."""

    name: str
    file: str
    own_s: float
    """In the function itself, and in C that it calls."""
    whole_s: float
    """With all the Python that it calls."""


@dataclass(frozen=True, kw_only=True)
class ThreadProfile:
    """What one thread did while it was not idle."""

    name: str
    busy_s: float
    functions: list[HotFunction]
    """The most own time first."""


def read_profile(path: Path, *, start_share: float = 0.0) -> list[ThreadProfile]:
    """Return the threads of a speedscope file, the busiest first.

    Args:
        path: as py-spy writes it, one profile per thread, the main one first.
        start_share: share of the main thread's busy time to leave out at its beginning.
    """
    content: dict[str, Any] = json.loads(path.read_text())
    frames = content["shared"]["frames"]
    threads = [
        _thread(profile, frames, start_share if number == 0 else 0.0)
        for number, profile in enumerate(content["profiles"])
    ]
    return sorted(threads, key=lambda thread: -thread.busy_s)


def _thread(
    profile: Mapping[str, Any], frames: Sequence[Mapping[str, Any]], start_share: float
) -> ThreadProfile:
    own: Counter[tuple[str, str]] = Counter()
    whole: Counter[tuple[str, str]] = Counter()
    samples = list(zip(profile["samples"], profile["weights"], strict=True))
    for stack, weight_s in samples[int(start_share * len(samples)) :]:
        functions = [(frames[index]["name"], _short(frames[index]["file"])) for index in stack]
        if not functions or functions[-1][0] in _WAITS:
            continue
        own[functions[-1]] += weight_s
        for function in set(functions):
            whole[function] += weight_s
    hot = [
        HotFunction(name=name, file=file, own_s=seconds, whole_s=whole[name, file])
        for (name, file), seconds in own.most_common()
    ]
    return ThreadProfile(name=profile["name"], busy_s=sum(own.values()), functions=hot)


def table(threads: Sequence[ThreadProfile], *, rows: int = 12, least_s: float = 0.1) -> str:
    """Return the functions with the most own time of every thread that did anything much."""
    lines = []
    for thread in threads:
        if thread.busy_s < least_s:
            continue
        lines.append(f"\n  {thread.name}: {thread.busy_s:.2f} s busy")
        lines.append(f"    {'own s':>7} {'own':>6} {'whole':>6}  function")
        for one in thread.functions[:rows]:
            own, whole = one.own_s / thread.busy_s, one.whole_s / thread.busy_s
            lines.append(f"    {one.own_s:7.2f} {own:6.1%} {whole:6.1%}  {one.name}  ({one.file})")
    return "\n".join(lines)


def _short(file: str) -> str:
    """Return the last parts of a path: package, module."""
    return "/".join(Path(file).parts[-3:])
