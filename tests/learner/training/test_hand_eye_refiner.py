"""Hand-eye maps are refined by the gradient of grasp labels."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import numpy as np
import pytest
import torch

from learner.config import TrainingConfig
from learner.networks import build_network
from learner.training.calibration_rows import MAX_CALIBRATIONS, Wanted
from learner.training.hand_eye_refiner import (
    EDGE_M,
    IMPLAUSIBLE_M,
    MAX_ROWS,
    NOBODY,
    SCALE_M,
    HandEyeRefiner,
)
from learner.training.step import Training
from learner.training.team import Team
from protocol.episode import Episode
from protocol.hand_eye import HandEyeMap
from protocol.release_manifest import RefinedMap
from tests.episodes import make_episode
from tests.learner.spot_task import SIDE_PX, TRUE_MAP, spot_examples, step_on

T = TypeVar("T")
POINTS = np.array(
    list(itertools.product(np.linspace(-0.08, 0.08, 5), np.linspace(-0.06, 0.06, 5), [0.0]))
)


def moved(x_m: float, y_m: float) -> HandEyeMap:
    """Return a map that takes every pose for one that is shifted by this much."""
    shift = np.eye(4, dtype=np.float32)
    shift[:2, 3] = x_m, y_m
    return HandEyeMap(matrix=TRUE_MAP.matrix @ shift)


def map_of(refined: RefinedMap) -> HandEyeMap:
    return HandEyeMap(matrix=np.array(refined.matrix, np.float32).reshape(3, 4))


def attempt_of(robot_id: str, calibration: HandEyeMap) -> Episode:
    episode = make_episode(robot_id, steps=1, side_px=SIDE_PX)
    return replace(episode, calibration=calibration.matrix)


def row_of(refiner: HandEyeRefiner, attempt: Episode) -> int:
    """Return the row of an attempt's calibration after the next step."""
    key = refiner.key_of(attempt)
    refiner.give_rows(Team())
    return int(refiner.rows_of(torch.tensor([key]))[0])


def use(refiner: HandEyeRefiner, attempt: Episode) -> int:
    """Return the same after an attempt that a robot has just made."""
    refiner.note_in_use(attempt, is_new=True)
    return row_of(refiner, attempt)


def test_labels_move_wrong_maps_towards_the_truth():
    torch.manual_seed(0)
    network = build_network("patch", height_px=SIDE_PX, width_px=SIDE_PX)
    training = Training(network, TrainingConfig(batch_size=96, learning_rate=5e-3), seed=0)
    wrong = (moved(0.01, 0.0), moved(-0.01, 0.0))
    examples = spot_examples(400, training.learned.refiner, calibrations=wrong)

    for _ in range(200):
        step_on(training, examples)

    maps = training.averaged.refiner.refined_maps({})
    assert set(maps) == {"robot-0", "robot-1"}
    for refined, calibration in zip(maps.values(), wrong, strict=True):
        assert calibration.error_m(TRUE_MAP, POINTS) == pytest.approx(0.01, abs=2e-4)
        assert map_of(refined).error_m(TRUE_MAP, POINTS) < 0.005
        assert refined.calibration_digest == calibration.digest()
        assert refined.warning == ""
    for moved_mm in training.averaged.refiner.corrections_mm().values():
        assert 4 < moved_mm < 12


def test_a_new_robot_begins_with_the_map_it_found_itself():
    refiner = HandEyeRefiner()
    episode = attempt_of("robot-0", moved(0.004, 0.003))
    assert row_of(refiner, episode) == 0
    refined = refiner.refined_maps({})["robot-0"]
    assert all(str(value) == str(np.float32(value)) for value in refined.matrix), "short decimals"
    np.testing.assert_array_equal(map_of(refined).matrix, episode.calibration)
    assert refined.calibration_digest == moved(0.004, 0.003).digest()
    assert refiner.corrections_mm() == {"robot-0": 0.0}


def test_a_robot_that_calibrates_anew_begins_anew_and_the_newest_is_released():
    refiner = HandEyeRefiner()
    assert row_of(refiner, attempt_of("robot-0", TRUE_MAP)) == 0
    assert row_of(refiner, attempt_of("robot-1", TRUE_MAP)) == 1
    assert row_of(refiner, attempt_of("robot-0", moved(0.01, 0.0))) == 2
    assert row_of(refiner, attempt_of("robot-0", TRUE_MAP)) == 0
    with torch.no_grad():
        refiner.correction_R24[0, 0, 3] = 0.5
    maps = refiner.refined_maps({})
    assert set(maps) == {"robot-0", "robot-1"}
    np.testing.assert_array_equal(map_of(maps["robot-0"]).matrix, moved(0.01, 0.0).matrix)


def test_a_correction_of_one_is_a_centimetre():
    refiner = HandEyeRefiner()
    row_of(refiner, attempt_of("robot-0", TRUE_MAP))
    with torch.no_grad():
        refiner.correction_R24[0, 1, 3] = 1.0
    refined = map_of(refiner.refined_maps({})["robot-0"])
    assert refined.error_m(TRUE_MAP, POINTS) == pytest.approx(SCALE_M, rel=0.02)
    assert refiner.corrections_mm()["robot-0"] == pytest.approx(1e3 * SCALE_M)


def test_a_correction_of_a_tenth_of_a_millimetre_counts_also_in_bfloat16():
    refiner = HandEyeRefiner()
    attempt = attempt_of("robot-0", TRUE_MAP)
    row_of(refiner, attempt)
    with torch.no_grad():
        refiner.correction_R24[0, 1, 3] = 1e-4 / SCALE_M
    key_B = torch.tensor([refiner.key_of(attempt)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        map_B34 = refiner(key_B, torch.from_numpy(TRUE_MAP.matrix)[None])
    refined = HandEyeMap(matrix=map_B34[0].detach().numpy())
    assert refined.error_m(TRUE_MAP, POINTS) == pytest.approx(1e-4, rel=0.05)


def test_a_linear_correction_of_one_is_a_centimetre_at_the_edge():
    refiner = HandEyeRefiner()
    row_of(refiner, attempt_of("robot-0", TRUE_MAP))
    with torch.no_grad():
        refiner.correction_R24[0, 0, 0] = 1.0
    refined = map_of(refiner.refined_maps({})["robot-0"])
    edge = np.array([[EDGE_M, 0.0, 0.0]])
    assert refined.error_m(TRUE_MAP, edge) == pytest.approx(SCALE_M, rel=0.02)
    assert refined.error_m(TRUE_MAP, np.zeros((1, 3))) < 1e-6


def test_a_map_that_moved_further_than_it_can_be_wrong_carries_a_warning():
    refiner = HandEyeRefiner()
    row_of(refiner, attempt_of("robot-0", TRUE_MAP))
    row_of(refiner, attempt_of("robot-1", TRUE_MAP))
    with torch.no_grad():
        refiner.correction_R24[1, 0, 3] = 1.1 * IMPLAUSIBLE_M / SCALE_M
    maps = refiner.refined_maps({})
    assert maps["robot-0"].warning == ""
    assert maps["robot-1"].warning.startswith("learning moved the hand-eye map by 33 mm")
    assert "check that the camera" in maps["robot-1"].warning


def test_a_shift_common_to_all_robots_costs_more_than_one_that_differs():
    def loss(first: float, second: float) -> float:
        refiner = HandEyeRefiner()
        for name in ("robot-0", "robot-1"):
            row_of(refiner, attempt_of(name, TRUE_MAP))
        with torch.no_grad():
            refiner.correction_R24[:2, 0, 3] = torch.tensor([first, second])
        refiner.trained_rows = 2
        return float(refiner.prior_loss().detach())

    assert loss(0.0, 0.0) == 0.0
    assert loss(1.0, 1.0) > 10 * loss(1.0, -1.0) > 0.0


def test_robots_may_join_while_a_release_is_made():
    refiner = HandEyeRefiner()

    def join_all() -> None:
        for index in range(1500):
            refiner.key_of(attempt_of(f"robot-{index}", TRUE_MAP))

    joining = threading.Thread(target=join_all)
    joining.start()
    while joining.is_alive():
        refiner.give_rows(Team())
        copied = copy.deepcopy(refiner)
        maps = copied.refined_maps({})
        assert list(maps) == [f"robot-{index}" for index in range(len(maps))]
        assert len(refiner.corrections_mm()) >= len(maps)
    joining.join()
    refiner.give_rows(Team())
    assert len(refiner.refined_maps({})) == 1500


def test_a_robot_whose_camera_is_back_where_it_was_is_given_the_map_of_then():
    refiner = HandEyeRefiner()
    before, after = attempt_of("robot-0", TRUE_MAP), attempt_of("robot-0", moved(0.01, 0.0))
    for attempt in (before, after, before):
        use(refiner, attempt)
    refiner.note_in_use(after, is_new=False)  # read late, from before the start
    with torch.no_grad():
        refiner.correction_R24[0, 0, 3] = 0.5
    published = refiner.refined_maps({})["robot-0"]
    assert published.calibration_digest == TRUE_MAP.digest()
    assert refiner.corrections_mm()["robot-0"] == pytest.approx(5.0)


def test_one_robot_cannot_use_up_the_calibrations_of_the_fleet(caplog: pytest.LogCaptureFixture):
    refiner = HandEyeRefiner()
    first = attempt_of("robot-0", moved(0.0, 0.0))
    assert use(refiner, first) == 0
    for count in range(1, 100):
        assert use(refiner, attempt_of("robot-1", moved(1e-3 * count, 0.0))) <= MAX_CALIBRATIONS
    assert len(refiner.known()) == 1 + MAX_CALIBRATIONS
    assert row_of(refiner, first) == 0
    np.testing.assert_array_equal(
        map_of(refiner.refined_maps({})["robot-1"]).matrix, moved(0.099, 0.0).matrix
    )
    assert caplog.text.count("robot-1 has had more than 16 calibrations") == 1


def test_a_calibration_without_a_row_is_learned_from_as_the_robot_found_it():
    refiner = HandEyeRefiner()
    for count in range(1 + MAX_CALIBRATIONS):
        use(refiner, attempt_of("robot-0", moved(1e-3 * count, 0.0)))
    forgotten = attempt_of("robot-0", moved(0.0, 0.0))
    assert row_of(refiner, forgotten) == NOBODY
    with torch.no_grad():
        refiner.correction_R24.fill_(0.5)
    found = torch.from_numpy(forgotten.calibration)[None]
    assert torch.equal(refiner(torch.tensor([refiner.key_of(forgotten)]), found), found)


def attempts_after_calibrating(robots: int, calibrations: range) -> Iterator[Episode]:
    template = attempt_of("any", TRUE_MAP)
    for count in calibrations:
        for robot in range(robots):
            matrix = TRUE_MAP.matrix + np.float32(1e-4 * count)
            yield replace(template, robot_id=f"robot-{robot}", calibration=matrix)


def test_a_thousand_robots_that_calibrate_for_years_all_stay_in_the_training():
    refiner = HandEyeRefiner()
    for attempt in attempts_after_calibrating(1000, range(6)):
        refiner.note_in_use(attempt, is_new=True)
        refiner.key_of(attempt)
        if attempt.robot_id == "robot-999":
            given = refiner.give_rows(Team())
            assert len(given) == 1000
    assert len(refiner.known()) == MAX_ROWS - 1
    maps = refiner.refined_maps({})
    assert len(maps) == 1000
    newest = HandEyeMap(matrix=attempt.calibration).digest()
    assert {refined.calibration_digest for refined in maps.values()} == {newest}


def test_robots_beyond_the_rows_keep_the_maps_that_they_found(caplog: pytest.LogCaptureFixture):
    refiner = HandEyeRefiner()
    for attempt in attempts_after_calibrating(MAX_ROWS + 1, range(1)):
        refiner.note_in_use(attempt, is_new=True)
        refiner.key_of(attempt)
    assert len(refiner.give_rows(Team())) == len(refiner.refined_maps({})) == MAX_ROWS - 1
    assert caplog.text.count("more than 4095 robots") == 1


@dataclass(frozen=True, kw_only=True, slots=True)
class TeamOfTwo(Team):
    """One of two workers, that is told what both of them gave."""

    gave: list[list[Wanted]]

    def least(self, number: int) -> int:
        return 0

    def everyones(self, own: T) -> list[T]:
        return cast("list[T]", self.gave)


def test_workers_that_know_more_calibrations_together_than_there_are_rows_agree_on_the_rows():
    workers = HandEyeRefiner(), HandEyeRefiner()
    parts = range(3), range(3, 5)
    for worker, part in zip(workers, parts, strict=True):
        for attempt in attempts_after_calibrating(900, part):
            worker.note_in_use(attempt, is_new=True)
            worker.key_of(attempt)
    gave = [worker.rows.take_wanted() for worker in workers]
    assert sum(map(len, gave)) > MAX_ROWS
    given = [worker.give_rows(TeamOfTwo(size=2, gave=gave)) for worker in workers]
    assert given[0] == given[1]
    assert max(given[0]) < NOBODY
    assert workers[0].known() == workers[1].known()
    assert torch.equal(workers[0].calibration_R34, workers[1].calibration_R34)


def test_a_calibration_that_takes_the_place_of_another_begins_without_its_correction():
    torch.manual_seed(0)
    network = build_network("patch", height_px=SIDE_PX, width_px=SIDE_PX)
    training = Training(network, TrainingConfig(batch_size=32), seed=0)
    refiner = training.learned.refiner
    examples = spot_examples(40, refiner, calibrations=(TRUE_MAP,))
    for count in range(1, MAX_CALIBRATIONS):
        refiner.key_of(attempt_of("robot-0", moved(1e-3 * count, 0.0)))
    for _ in range(3):
        step_on(training, examples)
    assert training.averaged.refiner.correction_R24[0].abs().max() > 0

    before = training.snapshot().averaged.refiner
    attempt = attempt_of("robot-0", moved(0.05, 0.0))
    refiner.note_in_use(attempt, is_new=True)
    refiner.key_of(attempt)
    training._begin_anew(refiner.give_rows(Team()))

    assert refiner.known()[0] == ("robot-0", moved(0.05, 0.0).digest())
    assert before.known()[0] == ("robot-0", TRUE_MAP.digest()), "a snapshot stays as it was"
    for learned in (training.learned, training.averaged):
        refined = learned.refiner.refined_maps({})["robot-0"]
        np.testing.assert_array_equal(map_of(refined).matrix, moved(0.05, 0.0).matrix)
    step_on(training, examples)


def test_what_is_known_of_a_robot_with_too_many_calibrations_survives_a_checkpoint():
    refiner = HandEyeRefiner()
    for count in range(MAX_CALIBRATIONS + 3):
        use(refiner, attempt_of("robot-0", moved(1e-3 * count, 0.0)))
    again = HandEyeRefiner()
    again.load_state_dict(refiner.state_dict())
    again.restore(refiner.known(), refiner.rows.by_age(), trained_rows=MAX_CALIBRATIONS)
    for row, (_, digest) in enumerate(again.known()):
        assert HandEyeMap(matrix=again.calibration_R34[row].numpy()).digest() == digest
    newest = attempt_of("robot-0", moved(1e-3 * (MAX_CALIBRATIONS + 2), 0.0))
    assert row_of(again, newest) == 2
    assert again.refined_maps({}) == refiner.refined_maps({}), "before anything is read again"
    use(again, attempt_of("robot-0", moved(0.1, 0.0)))
    assert row_of(again, newest) == 2, "the oldest one's row was taken"
