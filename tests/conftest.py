"""What holds for all tests."""

from __future__ import annotations

import signal

# A shell that runs the suite in the background lets it ignore Ctrl-C, and what a test starts would
# inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
