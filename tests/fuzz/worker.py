"""One atheris process: fuzzes one target until libFuzzer's limits are reached.

python -m tests.fuzz.worker TARGET [libFuzzer's options and folders]
"""

from __future__ import annotations

import atexit
import logging
import signal
import sys
import zlib
from random import Random
from types import FrameType

import atheris

with atheris.instrument_imports(include=["protocol", "robot_agent", "learner"]):
    from tests.fuzz.fuzz_target import outcome_of
    from tests.fuzz.targets import target_named

STRUCTURED = 0.8
"""Share of inputs that the target's own mutation makes; libFuzzer makes the others."""
INPUT_CPU_S = 10.0
"""An input that computes for longer is a crash. Time that a busy or frozen machine takes is not
the input's: that is left to libFuzzer's own limit, which is longer."""
_KINDS = 8192
"""Counters for outcomes, as if each kind of outcome were a line of code."""


def fuzz(name: str, arguments: list[str]) -> None:
    """Fuzz; libFuzzer ends the process."""
    target = target_named(name)
    run = target.prepare()
    kinds = [atheris._reserve_counter() for _ in range(_KINDS)]

    def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < STRUCTURED:
            return target.neighbour(data, random)[:max_bytes]
        return bytes(atheris.Mutate(data, max_bytes))

    def test_one_input(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_PROF, INPUT_CPU_S)
        outcome = outcome_of(run, data)
        atheris._trace_branch(kinds[zlib.crc32(outcome.kind.encode()) % _KINDS])

    signal.signal(signal.SIGPROF, _refuse_slow)
    # An exit is what libFuzzer writes a crash's input upon. By then Python has given signals their
    # default meaning, and a tick of the fuzzer's clock would kill before the input is written.
    atexit.register(_stop_clocks)
    options = [f"-max_len={target.max_bytes}", f"-rss_limit_mb={target.memory_mb}"]
    atheris.Setup([sys.argv[0], *options, *arguments], test_one_input, custom_mutator=mutate)
    atheris.Fuzz()


def _refuse_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"this input has computed for {INPUT_CPU_S:.0f} s")


def _stop_clocks() -> None:
    for clock in (signal.ITIMER_REAL, signal.ITIMER_PROF):
        signal.setitimer(clock, 0)


if __name__ == "__main__":
    # What is refused is logged, millions of times; only its cost is of interest here.
    logging.disable(logging.CRITICAL)
    fuzz(sys.argv[1], sys.argv[2:])
