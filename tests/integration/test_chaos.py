"""The short form of ``make chaos``: every part of a fleet killed once, every episode counted."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.__main__ import recover, release_probe
from tests.chaos.fire import Fire
from tests.chaos.fleet_under_fire import FirePlan, FleetUnderFire
from tests.chaos.release_probe import ReleaseProbe
from tests.chaos.strikes import Kind, Striker

AT_ONCE = (Kind.GATEWAY, Kind.TRAINER, Kind.RELEASES, Kind.EMULATED, Kind.AGENT)
STRIKE_WITHIN_S = 180.0


def strike(fleet: FleetUnderFire, fire: Fire, probe: ReleaseProbe, kind: Kind) -> None:
    """Strike as soon as there is something to be struck."""
    for _ in fleet.wait(STRIKE_WITHIN_S):
        probe.look()
        fire.look()
        if fire.strike(kind):
            return
    pytest.fail(f"nothing to strike within {STRIKE_WITHIN_S:.0f} s: {kind}")


@pytest.mark.timeout(1200)
def test_whatever_is_killed_comes_back_and_every_episode_is_stored_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    plan = FirePlan(agents=2, groups=2, robots_per_group=4, interval_s=0.5)
    with FleetUnderFire(tmp_path, plan) as fleet, closing(release_probe(fleet)) as probe:
        fleet.wait_until_delivering(240.0)
        fire = Fire(fleet, Striker(fleet, probe), seed=0, stop_s=1.0, say=print)
        for kind in AT_ONCE:
            strike(fleet, fire, probe, kind)
        recover(fleet, fire, probe)
        assert not fire.pending
        strike(fleet, fire, probe, Kind.DRIVER)
        recover(fleet, fire, probe)
        assert not fire.pending, capsys.readouterr().out
        assert not fire.orphaned, "no actor outlives its learner"
        fleet.end()
        found = fleet.comparison()
    assert found.is_clean, found
    assert found.stored > 100
    assert {one.kind for one in fire.strikes} == {*AT_ONCE, Kind.DRIVER}
