"""``python -m learner --config learner.toml``: what ``ray submit`` and ``ray job submit`` run.

``python -m learner --offline STORE...`` trains on recorded stores alone.
"""

from __future__ import annotations

import sys

INTERRUPTED_STATUS = 130


def main() -> None:
    """Run the command line; Ctrl-C before it has handlers of its own ends it with a word."""
    try:
        # Loaded only here: Ray takes seconds, in which a person may press Ctrl-C.
        from learner import command_line

        command_line.main()
    except KeyboardInterrupt:
        sys.stderr.write("\nlearner: interrupted\n")
        sys.exit(INTERRUPTED_STATUS)


if __name__ == "__main__":
    main()
