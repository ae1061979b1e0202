"""Run inputs again, with a traceback where one crashes.

python -m tests.fuzz.replay TARGET FILE...
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fuzz.fuzz_target import outcome_of
from tests.fuzz.targets import target_named


def main() -> None:
    """Say what becomes of every file."""
    _, name, *files = sys.argv
    run = target_named(name).prepare()
    for file in files:
        print(file, outcome_of(run, Path(file).read_bytes()))


if __name__ == "__main__":
    main()
