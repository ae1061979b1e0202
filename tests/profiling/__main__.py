"""Shows where the time of the gateway and of an agent goes.

    python -m tests.profiling                          both, 15 s each
    python -m tests.profiling --subjects gateway       one of them
    python -m tests.profiling --seconds 60 --rows 25   longer, and more of each table

The gateway is under the full load of eight agents, and its store has the size at which the oldest
episodes go; the agent is that of a simulated robot, with a release to search with. py-spy samples
their Python 100 times a second while a thread is not idle; what OpenCV, ONNX Runtime, LMDB or the
simulator do counts for the function that called them.
libzmq's own threads (encryption, sockets) run no Python: they are in the kernel's account alone.

Under the folder of the results are, for each, a profile to look at with https://speedscope.app
(it stays in your browser), and the table that is printed. Neither needs rights, for py-spy starts
what it watches; where the kernel forbids even that, what to do is said.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from tests.profiling.hot_functions import read_profile, table
from tests.profiling.recording import ProfilingError
from tests.profiling.subjects import Seen, profile_agent, profile_gateway

MOST_S = 3600.0
SUBJECTS: dict[str, Callable[[Path, Path, float], Seen]] = {
    "gateway": profile_gateway,
    "agent": profile_agent,
}


def main() -> None:
    arguments = _parser().parse_args()
    # What torch's exporter has to say of every release concerns nobody here.
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore", FutureWarning)
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name in arguments.subjects:
        path = out / f"{name}.speedscope.json"
        try:
            with tempfile.TemporaryDirectory(dir=out, prefix="work-") as work:
                seen = SUBJECTS[name](path, Path(work), arguments.seconds)
        except ProfilingError as error:
            sys.exit(f"profile of the {name}: {error}")
        text = describe(name, seen, arguments.rows)
        (out / f"{name}.txt").write_text(text)
        print(text, flush=True)


def describe(name: str, seen: Seen, rows: int) -> str:
    """Return the table of a profile."""
    lines = [f"\n{name}: CPU by the kernel's account, every thread since the start"]
    for thread, seconds in sorted(seen.thread_seconds.items(), key=lambda one: -one[1]):
        if seconds >= 0.05:
            lines.append(f"  {seconds:7.2f} s  {thread}")
    lines.append(f"{name}: busy time by py-spy's samples")
    lines.append(
        table(read_profile(seen.path, start_share=seen.start_share), rows=rows).lstrip("\n")
    )
    lines.append(f"\n  {seen.path}: open it with https://speedscope.app")
    return "\n".join(lines)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= MOST_S:
        raise argparse.ArgumentTypeError(f"{text}: above 0 and at most {MOST_S:.0f}")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.profiling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--subjects", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS), help="(both)"
    )
    parser.add_argument("--seconds", type=_seconds, default=15.0, help="of each, to 3600 (15)")
    parser.add_argument("--rows", type=int, default=12, help="functions of each thread (12)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/profile"), help="folder of the results"
    )
    return parser


if __name__ == "__main__":
    main()
