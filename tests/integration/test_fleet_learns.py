"""A small fleet of real processes must learn to grasp in two minutes; cut anywhere, it must not.

The cuts are ordinary settings of the learner. They show that the first test would notice.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.fleet_runs import complaints, run_fleet

ROBOTS = 3
MINUTES = 2.0


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_a_fleet_learns_to_grasp_in_two_minutes_and_every_episode_is_stored_once(tmp_path: Path):
    summary = run_fleet(tmp_path / "run", minutes=MINUTES, robots=ROBOTS)
    assert complaints(summary) == []
    assert summary["training_truth"]["false_successes"] == 0
    assert summary["releases_published"] > 0
    for name in ("report.html", "learning_curve.png", "film_strip_success.png"):
        assert (tmp_path / "run" / name).stat().st_size > 10_000


CUTS = {
    "training": ("[training]\nfirst_after_attempts = 1000000000\n", "only 0 greedy attempts"),
    # Releases come as usual, and hold what the network began with.
    "learning": ("[training]\nlearning_rate = 1e-12\nfinal_learning_rate = 1e-12\n", "greedy"),
    # The release server listens where no robot looks for it.
    "weights": ('[releases]\nbind = "tcp://127.0.0.1:*"\n', "only 0 greedy attempts"),
    # A full store commits nothing, and what is not committed is not acked.
    "acks": ("[gateway]\nmax_store_bytes = 4000000\n", "episodes left_in_outboxes"),
}


@pytest.mark.slow
@pytest.mark.parametrize("cut", CUTS)
def test_a_fleet_whose_learning_is_cut_is_found_out(tmp_path: Path, cut: str):
    settings, complaint = CUTS[cut]
    summary = run_fleet(tmp_path / "run", minutes=MINUTES, robots=ROBOTS, learner=settings)
    assert any(text.startswith(complaint) for text in complaints(summary)), complaints(summary)
