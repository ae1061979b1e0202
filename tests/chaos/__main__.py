"""Strikes a whole fleet down, part by part, for minutes, and counts every episode afterwards.

    python -m tests.chaos --minutes 10 --seed 0 --out runs/chaos

A learner on Ray, real agents with simulated robots and a few hundred emulated ones deliver
episodes; at random moments, recorded with the seed, a process of theirs gets SIGKILL, or the
gateway is stopped for a while. What does not come back by itself is started again one second
later, as systemd would. At the end a reader that shares no code with the learner compares the store
with what the robots wrote down. Exit status 0: nothing missing, doubled or altered, and everything
that was struck came back.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
import sys
from contextlib import closing
from pathlib import Path
from time import monotonic

from fleet.enrolment import enrol_robot
from fleet.operator import learner_address
from fleet.run_folder import RunFolder
from protocol.registry import Registry
from tests.chaos.fire import RECOVERY_S, Fire
from tests.chaos.fleet_under_fire import FirePlan, FleetUnderFire
from tests.chaos.release_probe import ReleaseProbe
from tests.chaos.report import summary_of, table, write_summary
from tests.chaos.strikes import Striker

START_S = 300.0
PROGRESS_S = 10.0


def main() -> None:
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(level=logging.WARNING)
    make_way(arguments.out)
    plan = FirePlan(
        agents=arguments.agents,
        groups=arguments.groups,
        robots_per_group=arguments.robots_per_group,
        interval_s=arguments.interval_s,
        seed=arguments.seed,
    )
    try:
        sys.exit(_run(plan, arguments))
    except KeyboardInterrupt:
        sys.exit("chaos: interrupted; every process of the fleet has been ended")


def _run(plan: FirePlan, arguments: argparse.Namespace) -> int:
    with FleetUnderFire(arguments.out, plan) as fleet, closing(release_probe(fleet)) as probe:
        say = Speaker(fleet)
        say(f"starting {plan.agents} agents and {plan.groups} x {plan.robots_per_group} emulated")
        fleet.wait_until_delivering(START_S)
        say("every robot delivers; fire")
        fire = Fire(
            fleet,
            Striker(fleet, probe),
            seed=plan.seed,
            stop_s=arguments.stop_s,
            say=say,
        )
        began_s = monotonic()
        burn(fleet, fire, probe, seconds=60 * arguments.minutes, say=say)
        under_fire_s = monotonic() - began_s
        say("fire over; waiting until everything is back")
        recover(fleet, fire, probe)
        say("robots deliver what is left, then the learner ends")
        fleet.end()
        found = fleet.comparison()
    summary = summary_of(fleet, fire, found, under_fire_s=under_fire_s)
    write_summary(summary, arguments.out / "summary.json")
    print("\n".join(table(summary)))
    print("clean" if summary["is_clean"] else "NOT CLEAN", arguments.out / "summary.json")
    return 0 if summary["is_clean"] else 1


def make_way(out: Path) -> None:
    """Remove an earlier run's folder; leave anything else alone."""
    if not out.exists():
        return
    if not RunFolder(root=out).learner_config.is_file():
        sys.exit(f"chaos: {out} is there and is no earlier run's folder; choose another --out")
    shutil.rmtree(out)


def release_probe(fleet: FleetUnderFire) -> ReleaseProbe:
    """Enrol one more robot, which only asks the release server whether it serves."""
    bundle = fleet.folder.robots / "probe"
    address = learner_address(fleet.folder, host=None)
    enrol_robot(Registry(fleet.folder.registry), bundle.name, bundle, address)
    return ReleaseProbe(bundle)


def burn(
    fleet: FleetUnderFire, fire: Fire, probe: ReleaseProbe, *, seconds: float, say: Speaker
) -> None:
    """Strike at random moments for so long."""
    next_s = monotonic() + fire.pause_s()
    for _ in fleet.wait(seconds):
        probe.look()
        fire.look()
        say.progress()
        if monotonic() >= next_s:
            fire.strike_next()
            next_s = monotonic() + fire.pause_s()


def recover(fleet: FleetUnderFire, fire: Fire, probe: ReleaseProbe) -> None:
    """Wait until everything that was struck is back and no orphan is left, or for RECOVERY_S."""
    for _ in fleet.wait(RECOVERY_S):
        probe.look()
        fire.look()
        if not fire.pending and not fire.orphaned and fleet.is_delivering():
            return


class Speaker:
    """Says what happens, with the seconds since the start."""

    def __init__(self, fleet: FleetUnderFire) -> None:
        self._fleet = fleet
        self._began_s = monotonic()
        self._progress_s = 0.0

    def __call__(self, text: str) -> None:
        print(f"{monotonic() - self._began_s:7.1f} s  {text}", flush=True)

    def progress(self) -> None:
        """Say every ten seconds how far the fleet is."""
        if monotonic() - self._progress_s < PROGRESS_S:
            return
        self._progress_s = monotonic()
        fleet = self._fleet
        real = sum(fleet.acked_by(agent.name) for agent in fleet.agents)
        welcome = sum(group.is_welcome for group in fleet.groups)
        self(
            f"... {fleet.acked} emulated and {real} real episodes acked, "
            f"{welcome} of {len(fleet.groups)} groups welcome"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="under fire (10)")
    parser.add_argument("--seed", type=int, default=0, help="of moments and kinds (0)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/chaos"), help="removed first if a run is there"
    )
    parser.add_argument("--agents", type=int, default=2, help="real robot-agent processes (2)")
    parser.add_argument("--groups", type=int, default=4, help="processes of emulated robots (4)")
    parser.add_argument("--robots-per-group", type=int, default=50, help="(50)")
    parser.add_argument(
        "--interval-s", type=float, default=20.0, help="between two episodes of one robot (20)"
    )
    parser.add_argument("--stop-s", type=float, default=60.0, help="a stop of the gateway (60)")
    return parser


if __name__ == "__main__":
    main()
