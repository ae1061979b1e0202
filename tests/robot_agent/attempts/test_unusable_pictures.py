"""Pictures that an attempt cannot use: stale, or of another size."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from protocol.episode import Label, Mode
from protocol.errors import CameraError, ConfigurationError
from robot_agent.attempts.episode_loop import EpisodeLoop
from robot_agent.cameras.base import Camera, Frame
from robot_agent.drivers import open_camera
from tests.robot_agent.attempts.made_attempts import RANDOM, attempt, hand_is_parked
from tests.robot_agent.hill_release import hill_q_function
from tests.robot_agent.simulated_agent import Site, make_config, make_site


class HalfCamera:
    """A camera that gives pictures of half the height from the ``after``-th on."""

    def __init__(self, site: Site, after: int) -> None:
        self._camera = site.camera
        self._left = after

    def capture(self) -> Frame:
        frame = self._camera.capture()
        self._left -= 1
        if self._left > 0:
            return frame
        return dataclasses.replace(frame, image=frame.image[::2])

    def close(self) -> None:
        self._camera.close()


class RepeatingCamera:
    """A camera whose driver hands out its ``after``-th picture again and again."""

    def __init__(self, site: Site, after: int) -> None:
        self._camera = site.camera
        self._left = after
        self._last: Frame | None = None

    def capture(self) -> Frame:
        if self._last is None or self._left > 0:
            self._left -= 1
            self._last = self._camera.capture()
        return self._last

    def close(self) -> None:
        self._camera.close()


class SetBackCamera:
    """A camera of a computer whose clock is set back by an hour after two pictures."""

    def __init__(self, site: Site) -> None:
        self._camera = site.camera
        self._left = 2

    def capture(self) -> Frame:
        frame = self._camera.capture()
        self._left -= 1
        if self._left >= 0:
            return frame
        return dataclasses.replace(frame, captured_at_ns=frame.captured_at_ns - 3600 * 10**9)

    def close(self) -> None:
        self._camera.close()


def loop_with(site: Site, camera: Camera) -> EpisodeLoop:
    return EpisodeLoop(
        config=site.config,
        robot=site.robot,
        camera=camera,
        calibration=site.truth,
        rng=np.random.default_rng(0),
    )


def test_a_picture_that_was_seen_before_aborts_the_attempt(site: Site):
    loop = loop_with(site, RepeatingCamera(site, after=2))
    episode = loop.run_attempt(Mode.RANDOM, None, max_moves=2, policy=RANDOM)
    assert "stale picture" in episode.outcome.abort_reason
    assert len(episode.steps) == 1
    with pytest.raises(CameraError, match="stale picture"):
        loop.run_attempt(Mode.RANDOM, None, max_moves=2, policy=RANDOM)


def test_a_clock_that_is_set_back_costs_no_attempt(site: Site):
    loop = loop_with(site, SetBackCamera(site))
    episode = loop.run_attempt(Mode.RANDOM, None, max_moves=2, policy=RANDOM)
    assert loop.abort_error is None
    assert episode.outcome.label != Label.ABORTED


def test_pictures_of_another_size_are_named_with_both_sizes(site: Site):
    loop = loop_with(site, HalfCamera(site, after=1))
    with pytest.raises(CameraError, match=r"uint8\[32, 64, 3\].*asks for uint8\[64, 64, 3\]"):
        loop.run_attempt(Mode.RANDOM, None, max_moves=2, policy=RANDOM)


def test_a_camera_that_changes_its_size_on_the_way_aborts_the_attempt(site: Site):
    loop = loop_with(site, HalfCamera(site, after=2))
    episode = loop.run_attempt(Mode.RANDOM, None, max_moves=2, policy=RANDOM)
    assert episode.outcome.label == Label.ABORTED
    assert "camera gave uint8[32, 64, 3]" in episode.outcome.abort_reason
    assert hand_is_parked(site)


def test_a_release_for_another_picture_size_aborts_and_says_what_to_set(tmp_path: Path):
    site = make_site(tmp_path, {"seed": 1}, side_px=48)
    episode = attempt(site, Mode.GREEDY, hill_q_function(calibration=site.truth))
    assert episode.outcome.label == Label.ABORTED
    assert "set camera.width_px and camera.height_px" in episode.outcome.abort_reason


def test_a_camera_size_that_cannot_be_had_is_a_wrong_configuration(tmp_path: Path, site: Site):
    config = make_config(tmp_path, side_px=8)
    with pytest.raises(ConfigurationError, match="8x8 px; each side must be 16 to 512"):
        open_camera(config.camera, site.robot)
