"""How soon an SO-101 is safe after something broke in the middle of an attempt.

    python -m tests.benchmarks.bench_arm_faults [--seconds 120] [--only NAME ...] [--out FILE]

A real agent drives an arm whose servos are emulated by another process, in real time and with the
highest speeds that its servos have. Times run from the fault to the moment since which the servos'
registers show the arm at rest where it is told to be, and, where the agent ends, with no more than
the torque of holding. ``calibrate`` moves the same arm without an agent.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from tests.benchmarks.figures import Figure, Findings, add_out_option, report
from tests.emulated_arms.arm_faults import (
    FINAL,
    PASSING,
    WHILE_CALIBRATING,
    ArmFault,
    hold_after_s,
    rest_after_s,
    strike,
)
from tests.emulated_arms.robot_cell import RobotCell, robot_cell
from tests.waiting import wait_until

BOUND_MS = 500.0
TRIAL_S = 4.0
"""About what one trial takes."""


def trial_ms(cell: RobotCell, fault: ArmFault) -> float:
    """Let it happen once; return how long it took to the safe state."""
    struck_s = strike(cell, fault)
    if fault.status is not None:
        safe_s = hold_after_s(cell, fault, struck_s)
        fault.mend(cell)
    else:
        safe_s = rest_after_s(cell, struck_s)
        wait_until(lambda: fault.says in cell.log, "the agent says so")
        fault.mend(cell)
        cell.await_attempts(1)
    return 1e3 * safe_s


def figure(cell: RobotCell, fault: ArmFault, trials: int) -> Figure:
    """Return the largest of so many trials, with the spread."""
    found_ms = [trial_ms(cell, fault) for _ in range(trials)]
    return Figure(
        name=f"{fault} to {'rest' if fault.status is None else 'the hold'}",
        value=max(found_ms),
        unit="ms",
        low=min(found_ms),
        high=max(found_ms),
        bound=f"<= {BOUND_MS:g}",
        note=f"largest of {trials}; median {statistics.median(found_ms):.0f}",
    )


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="for all trials (120)")
    parser.add_argument("--only", nargs="+", help="faults, by name; all by default")
    add_out_option(parser)
    arguments = parser.parse_args()
    every = (*PASSING, *FINAL, *WHILE_CALIBRATING)
    faults = [one for one in every if one.name in (arguments.only or [one.name])]
    with tempfile.TemporaryDirectory() as name, robot_cell(Path(name)) as cell:
        trials = max(1, int(arguments.seconds / TRIAL_S / len(faults)))
        figures = [figure(cell, fault, trials) for fault in faults]
    settings = {"trials": trials}
    findings = Findings(title="How soon an arm is safe", settings=settings, figures=figures)
    report(findings, arguments.out)


if __name__ == "__main__":
    main()
