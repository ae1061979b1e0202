"""What a fleet learns with arms that it takes for real ones, beside what it learns in simulation.

    python -m tests.emulated_arms --attempts 1500 --out runs/emulated_arms

Two fleets learn one after the other, with the same seed, cameras, bins and settings of the learner:
one of SO-101s whose servos are emulated byte by byte behind a serial port, one of the same arms
moved by the simulator itself. Each ends after the same number of attempts; its newest release is
then measured on held-out objects, by the robots that it was learnt with.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from fleet.evaluation import EvaluationPlan, evaluate
from fleet.evaluation_result import Evaluation
from fleet.fleet_files import FleetPlan, prepare_run_folder
from fleet.run_folder import RunFolder

CAMERA = "tests.emulated_arms.robots:BinCamera"
DRIVERS = {
    "emulated": "tests.emulated_arms.robots:EmulatedSO101",
    "direct": "tests.emulated_arms.robots:DirectSO101",
}
_ATTEMPTS = re.compile(rb"(\d+) attempts")
_LONGEST_MIN = 240


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attempts", type=int, default=1500, help="of each fleet while it learns")
    parser.add_argument("--evaluated", type=int, default=400, help="held-out attempts of each")
    parser.add_argument("--robots", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/emulated_arms"))
    parser.add_argument("--only", choices=DRIVERS, help="one of the two fleets")
    arguments = parser.parse_args()
    found = {
        kind: _learn_and_measure(driver, arguments.out / kind, arguments)
        for kind, driver in DRIVERS.items()
        if arguments.only in (None, kind)
    }
    (arguments.out / "result.json").write_text(json.dumps(found, indent=2) + "\n")
    for kind, result in found.items():
        print(f"{kind}: {json.dumps(result)}")


def _learn_and_measure(driver: str, out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    folder = RunFolder(root=out.resolve())
    # As simulated robots first: that gives each one's camera its place, which is kept.
    plan = FleetPlan(robots=arguments.robots, seed=arguments.seed, arm="so101")
    prepare_run_folder(folder, plan)
    _learn(driver, out, arguments)
    release = folder.newest_release()
    if release is None:
        raise SystemExit(f"{out}: no release was made in {arguments.attempts} attempts")

    def progress(done: int, total: int) -> bool:
        print(f"\r{out.name}: evaluated {done} of {total}", end="", file=sys.stderr, flush=True)
        return True

    measured = EvaluationPlan(
        greedy=arguments.evaluated, random=arguments.evaluated // 4, unseen=0, seed=arguments.seed
    )
    evaluation = evaluate(folder, release, measured, progress=progress)
    evaluation.write(folder.evaluation)
    return _result(evaluation, json.loads((out / "summary.json").read_text()))


def _learn(driver: str, out: Path, arguments: argparse.Namespace) -> None:
    """Let a fleet learn until it has made its attempts; it is then told to end."""
    command = [sys.executable, "-m", "fleet", "demo", "--robots", str(arguments.robots)]
    command += ["--minutes", str(_LONGEST_MIN), "--seed", str(arguments.seed), "--out", str(out)]
    command += ["--robot", driver, "--camera", CAMERA, "--no-evaluate"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as fleet:
        assert fleet.stdout is not None
        for line in fleet.stdout:
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
            made = _ATTEMPTS.search(line)
            if made and int(made[1]) >= arguments.attempts:
                fleet.send_signal(signal.SIGINT)
                break
        sys.stderr.buffer.write(fleet.stdout.read())


def _result(evaluation: Evaluation, summary: dict[str, Any]) -> dict[str, Any]:
    return {
        "attempts": summary["attempts"],
        "learning_s": summary["wall_s"],
        "missing": summary["episodes_missing"],
        "duplicated": summary["episodes_duplicated"],
        "release": evaluation.release_version,
        "held_out": str(evaluation.held_out),
        "random": str(evaluation.random),
        "aborted": sum(bool(one.abort_reason) for one in evaluation.attempts),
    }


if __name__ == "__main__":
    main()
