"""The short form of ``make fuzz``: seeds, what crashed once, and some thousand neighbours."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.campaign import Campaign, regressions, turn_s
from tests.fuzz.defective_target import DEFECTIVE
from tests.fuzz.fuzz_target import FuzzTarget, outcome_of
from tests.fuzz.targets import TARGETS

MAX_INPUTS, LEAST_INPUTS = 3000, 200
MAX_S = 1.0
"""For each target, beyond the least; a thousand kinds of outcome are seen in it."""


@pytest.fixture(autouse=True)
def _in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refusals are logged by the thousand; targets keep their files apart."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_nothing_but_a_refusal_comes_of_a_hostile_input(target: FuzzTarget):
    run = target.prepare()
    inputs = [*target.seeds(), *regressions(target.name)]
    outcomes = [outcome_of(run, data) for data in inputs]
    assert not all(outcome.is_refused for outcome in outcomes), "no seed of it is valid"
    kinds = {outcome.kind for outcome in outcomes}
    random = Random(0)
    end_s = time.monotonic() + MAX_S
    for done in range(MAX_INPUTS):
        if done >= LEAST_INPUTS and time.monotonic() > end_s:
            break
        data = target.neighbour(random.choice(inputs), random)
        outcome = outcome_of(run, data)
        if outcome.kind not in kinds:
            # What went a new way is a better beginning than any seed.
            kinds.add(outcome.kind)
            inputs.append(data)
    assert len(kinds) > 2, f"every input came to one of {kinds}"


def test_a_campaign_fuzzes_several_targets_and_counts(tmp_path: Path):
    pytest.importorskip("atheris")
    chosen = [TARGETS["release_download"], TARGETS["to_gateway"]]
    campaign = Campaign(chosen, tmp_path, max_inputs=2000, max_s=120, processes=2)
    campaign.run(lambda _: None)
    for target in chosen:
        result = campaign.results[target.name]
        assert result.inputs > 100
        assert result.coverage > 5
        assert result.peak_memory_mb > 0
        assert result.crashes == []


@pytest.mark.parametrize("beside_s", [0.0, 4.0, 9.0])
@pytest.mark.parametrize("targets", [1, 20, 25])
def test_every_target_has_a_turn_however_long_workers_take_to_start(targets: int, beside_s: float):
    left_s, known_s = 300.0, 0.0
    for waiting in range(targets, 0, -1):
        assert left_s > 1, f"no turn for {waiting}"
        seconds = turn_s(left_s, waiting=waiting, processes=1, beside_s=known_s)
        left_s -= seconds + beside_s
        known_s = beside_s
    # Whoever comes last leaves no more than the campaign's end to others.
    assert turn_s(100.0, waiting=0, processes=2, beside_s=known_s) == 60


def test_a_campaign_finds_a_defect_and_keeps_the_input_that_shows_it(tmp_path: Path):
    pytest.importorskip("atheris")
    campaign = Campaign([DEFECTIVE], tmp_path, max_inputs=10**6, max_s=120, processes=1)
    campaign.run(lambda _: None)
    crashes = campaign.results["defective"].crashes
    assert crashes
    for crash in crashes:
        with pytest.raises(ZeroDivisionError):
            outcome_of(DEFECTIVE.prepare(), Path(crash).read_bytes())
