"""``fleet top`` in a terminal, beside a gateway that comes and goes."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fleet.run_folder import RunFolder
from learner.config import LearnerConfig
from learner.ingestion.gateway import Gateway
from protocol.configuration import load_toml
from tests.fleet.deliveries import deliver
from tests.waiting import PATIENCE_S


class Terminal:
    """``fleet top`` with a terminal of 100 columns and 30 rows."""

    def __init__(self, folder: Path) -> None:
        self._screen, inner = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fleet", "top", "--every-s", "0.2", "--run", str(folder)],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=os.environ | {"COLUMNS": "100", "LINES": "30", "TERM": "xterm"},
        )
        os.close(inner)

    def wait_for(self, text: str, within_s: float = 60.0) -> None:
        """Read on until the text is shown from now on."""
        shown, deadline = "", time.monotonic() + within_s
        while text not in shown:
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"{text!r} is not in {shown[-3000:]!r}"
            if select.select([self._screen], [], [], left_s)[0]:
                shown += os.read(self._screen, 65536).decode(errors="replace")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._screen)


@contextmanager
def gateway_of(folder: RunFolder) -> Iterator[Gateway]:
    config = load_toml(folder.learner_config, LearnerConfig)
    gateway = Gateway(config.gateway, config.keys.server_secret, config.keys.registry)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


def test_top_goes_on_while_the_learner_is_away_and_ends_with_ctrl_c(
    folder: RunFolder,
):
    deliver(folder, "robot-01")
    with closing(Terminal(folder.root)) as terminal:
        terminal.wait_for("did not answer in 5 s; does it run")
        with gateway_of(folder):
            terminal.wait_for("robot-02")
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.process.wait(PATIENCE_S) == 130


def test_top_without_a_terminal_says_what_scripts_take(folder: RunFolder):
    done = subprocess.run(
        [sys.executable, "-m", "fleet", "top", "--run", str(folder.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "fleet: fleet top needs a terminal; scripts take 'fleet status --json'\n"
