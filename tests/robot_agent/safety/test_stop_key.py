"""The key in a real terminal that hangs up, or belongs to another program."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.delivery_site import ROOT
from tests.waiting import wait_until

HUNG_UP = """
import select, signal, sys, pathlib
from robot_agent.safety.stop_key import StopKey
signal.signal(signal.SIGHUP, signal.SIG_IGN)
said = pathlib.Path(sys.argv[1])
key = StopKey()
assert key.open()
said.write_text("open")
select.select([key], [], [])
key.typed()
said.write_text(f"open: {key.is_open}")
"""

IN_THE_BACKGROUND = """
import os, select, signal, sys, pathlib
from robot_agent.safety.stop_key import StopKey
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
said = pathlib.Path(sys.argv[1])
key = StopKey()
assert key.open()
other = os.fork()
if other == 0:
    os.setpgid(0, 0)
    signal.pause()
while os.getpgid(other) == os.getpgrp():
    pass
os.tcsetpgrp(0, other)
said.write_text("open")
select.select([key], [], [])  # a key was typed
poller = select.poll()
poller.register(key, key.awaited)
in_background = poller.poll(0)
os.tcsetpgrp(0, os.getpgrp())
poller.register(key, key.awaited)
in_front = [(0, select.POLLIN)] == poller.poll(0)
os.kill(other, signal.SIGKILL)
said.write_text(f"{in_background} {in_front} {key.typed()}")
"""


@contextmanager
def in_terminal(program: str, said: Path) -> Iterator[int]:
    """Run a program in a terminal of its own; yield the terminal's other end."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", program, str(said)])
    try:
        wait_until(lambda: said.exists() and said.read_text() == "open", "it takes keys")
        yield terminal
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_a_terminal_that_hung_up_is_no_longer_waited_for(tmp_path: Path):
    said = tmp_path / "said"
    with in_terminal(HUNG_UP, said) as terminal:
        os.close(terminal)
        wait_until(lambda: said.read_text() not in {"", "open"}, "it notices")
        assert said.read_text() == "open: False"


def test_keys_for_another_program_in_front_wake_nobody_in_the_background(tmp_path: Path):
    said = tmp_path / "said"
    with in_terminal(IN_THE_BACKGROUND, said) as terminal:
        os.write(terminal, b" ")
        wait_until(lambda: said.read_text() not in {"", "open"}, "it says what it heard")
        os.close(terminal)
    assert said.read_text() == "[] True b' '"
