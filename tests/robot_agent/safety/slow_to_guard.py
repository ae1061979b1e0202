"""A WireRobot whose guard never gets ready: as on a slow card, for as long as a test needs."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.robot_agent.safety.wire_robot import WireRobot

GUARD_FILE = "SLOW_GUARD_FILE"
"""The environment's name for where the guard writes its process id once it loads this driver."""

SlowToGuard = WireRobot

if Path(sys.argv[0]).name == "guard.py":
    Path(os.environ[GUARD_FILE]).write_text(str(os.getpid()))
    signal.pause()
