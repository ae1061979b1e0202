"""How soon an arm holds still after its agent was killed, has stalled, or was told to stop.

    python -m tests.benchmarks.bench_safety [--seconds 60] [--out FILE]

Every trial is an agent whose arm moves on a pseudo-terminal. Times run from the moment at which the
test acts to the moment at which the other end of the line has read the command, by one clock.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from robot_agent.config import DriverConfig
from robot_agent.safety.watchdog import Watchdog
from tests.benchmarks.figures import Figure, Findings, add_out_option, figure_of, report
from tests.robot_agent.safety.moving_arm import guard_of, moving_arm
from tests.robot_agent.safety.recorder import Recorder
from tests.robot_agent.safety.wire_robot import HOLD, STOPPED, wire_config
from tests.waiting import wait_until

STALL_S = 0.5
FEWEST_TRIALS = 3
TRIAL_S = 1.0
"""About what one trial takes; there are four kinds."""
SO101 = "robot_agent.robots.so101:SO101"
Act = Callable[[subprocess.Popen[bytes], Path], None]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is done to an agent, and what then comes on the line."""

    name: str
    act: Act
    line: bytes
    bound: str
    stall_s: float = 60.0
    after_s: float = 0.0
    """Taken off what was measured: what was waited for on purpose."""
    note: str = ""


KINDS = (
    Kind(
        name="kill -9 to the hold",
        act=lambda agent, _: agent.kill(),
        line=HOLD,
        bound="<= 500",
        note="largest",
    ),
    Kind(
        name="suspended to the hold, beyond stall_s",
        act=lambda agent, _: agent.send_signal(signal.SIGSTOP),
        line=HOLD,
        bound="<= 500",
        stall_s=STALL_S,
        after_s=STALL_S,
        note="largest; below 0: the last sign of life was older",
    ),
    Kind(
        name="SIGUSR1 to the stop",
        act=lambda agent, _: agent.send_signal(signal.SIGUSR1),
        line=STOPPED,
        bound="<= 100",
        note="largest",
    ),
    Kind(
        name="file STOP to the stop",
        act=lambda _, folder: (folder / "STOP").touch(),
        line=STOPPED,
        bound="<= 100",
        note="largest; looked for every 40 ms",
    ),
)


def trial_ms(kind: Kind) -> float:
    """Do it to one agent; return how long the line took to carry the command."""
    with tempfile.TemporaryDirectory() as name, Recorder(Path(name) / "port") as line:
        with moving_arm(Path(name), line, stall_s=kind.stall_s, motion_s=60) as agent:
            guard = guard_of(agent)
            acted_s = time.monotonic()
            kind.act(agent, Path(name))
            wait_until(lambda: line.count(kind.line) > 0, kind.name)
        came_s = next(at_s for at_s, said in line.lines if said == kind.line)
        wait_until(lambda: not Path(f"/proc/{guard}").exists(), "the guard ends")
    return 1e3 * (came_s - acted_s - kind.after_s)


def figure(kind: Kind, trials: int) -> Figure:
    """Return the largest of so many trials, with the spread."""
    found_ms = [trial_ms(kind) for _ in range(trials)]
    return Figure(
        name=kind.name,
        value=max(found_ms),
        unit="ms",
        low=min(found_ms),
        high=max(found_ms),
        bound=kind.bound,
        note=kind.note,
    )


def guard_figures(driver: str, rounds: int) -> list[Figure]:
    """Return what a guard costs: until it is ready, and in memory."""
    starts_ms, private_mb, resident_mb = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            config = wire_config(Path(name), Path(name) / "port")
            robot = DriverConfig(driver=driver, options=config.robot.options)
            began_s = time.monotonic()
            watchdog = Watchdog.start(dataclasses.replace(config, robot=robot))
            starts_ms.append(1e3 * (time.monotonic() - began_s))
            assert watchdog.guard_pid is not None
            status = Path(f"/proc/{watchdog.guard_pid}/status").read_text()
            private_mb.append(_kilobytes(status, "RssAnon") / 1024)
            resident_mb.append(_kilobytes(status, "VmRSS") / 1024)
            watchdog.close()
    what = driver.rpartition(":")[2]
    return [
        figure_of(f"guard of a {what}: until it is ready", starts_ms, "ms"),
        figure_of(f"guard of a {what}: memory of its own", private_mb, "MB"),
        figure_of(f"guard of a {what}: resident, with shared libraries", resident_mb, "MB"),
    ]


def _kilobytes(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1])


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for all trials (60)")
    add_out_option(parser)
    arguments = parser.parse_args()
    trials = max(FEWEST_TRIALS, int(arguments.seconds / TRIAL_S / len(KINDS)))
    figures = [figure(kind, trials) for kind in KINDS]
    figures += guard_figures(SO101, FEWEST_TRIALS)
    settings = {"trials": trials, "stall_s": STALL_S}
    findings = Findings(title="How soon an arm holds still", settings=settings, figures=figures)
    report(findings, arguments.out)


if __name__ == "__main__":
    main()
