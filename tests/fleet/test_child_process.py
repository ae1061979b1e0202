import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fleet.child_process import ChildProcess
from tests.waiting import PATIENCE_S, wait_until

SLEEP = ["-c", "import time; print('up', flush=True); time.sleep(60)"]


@pytest.fixture
def child(tmp_path: Path):
    process = ChildProcess("sleeper", SLEEP, log=tmp_path / "logs" / "sleeper.log")
    yield process
    process.kill()


def test_child_runs_until_it_is_asked_to_end_and_its_output_is_in_the_log(child):
    assert child.exit_status is None
    child.start()
    wait_until(lambda: child.log_tail(1) == "up", "it runs")
    assert child.running
    child.ask_to_end()
    assert child.wait(PATIENCE_S) == -signal.SIGTERM
    assert not child.running


def test_child_can_be_started_again_and_its_log_goes_on(child):
    for times in (1, 2):
        child.start()
        wait_until(
            lambda times=times: child.log_tail().splitlines()[1::2] == ["up"] * times,
            "it runs again",
        )
        child.kill()
    for header in child.log_tail().splitlines()[::2]:
        assert re.fullmatch(r"==== \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: sleeper starts", header)
    assert child.exit_status == -signal.SIGKILL


def test_child_is_told_to_write_no_colours(tmp_path: Path):
    code = "import os; print(os.environ['NO_COLOR'], os.environ['RAY_COLOR_PREFIX'])"
    child = ChildProcess("plain", ["-c", code], log=tmp_path / "log")
    child.start()
    assert child.wait(PATIENCE_S) == 0
    assert child.log_tail(1) == "1 0"


def test_terminal_s_ctrl_c_does_not_reach_the_child(child):
    child.start()
    assert os.getpgid(child.pid) != os.getpgrp()
    assert os.getsid(child.pid) == child.pid


def test_child_s_memory_is_measured(child):
    child.start()
    wait_until(lambda: child.log_tail(1) == "up", "it runs")
    child.measure_memory()
    assert 1 < child.peak_resident_mb < 500


def test_child_dies_with_a_parent_that_is_killed(tmp_path: Path):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from fleet.child_process import ChildProcess\n"
        f"child = ChildProcess('sleeper', {SLEEP!r}, log=Path(sys.argv[1]))\n"
        "child.start(); print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "log")], stdout=subprocess.PIPE
    )
    orphan = psutil.Process(int(parent.stdout.readline()))
    assert orphan.is_running()
    parent.kill()
    parent.wait()
    wait_until(
        lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE, "it ends too"
    )
