"""Admission: what may enter the store, and in what words the rest is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from learner.ingestion.admission import Admitted, Refused, admit
from protocol.codec import digest, encode_episode
from protocol.hand_eye import pinhole_map
from protocol.messages import EpisodeSubmission
from tests.episodes import make_episode


def submission(record: bytes) -> EpisodeSubmission:
    return EpisodeSubmission(spool_id=bytes(16), sequence=7, digest=digest(record))


@pytest.fixture(scope="module")
def record() -> bytes:
    return encode_episode(make_episode("arm", side_px=64))


def test_a_record_is_admitted_under_the_name_of_its_key(record: bytes):
    found = admit(submission(record), record, "arm", image_size_px=(64, 64))
    assert isinstance(found, Admitted)
    arrival = found.arrival
    assert (arrival.key.robot_id, arrival.key.sequence, arrival.letter) == ("arm", 7, "s")
    assert arrival.digest == digest(record)


@pytest.mark.parametrize("size_px", [(128, 64), (64, 128), (32, 32)])
def test_pictures_that_the_network_cannot_take_are_refused_by_name(
    record: bytes, size_px: tuple[int, int]
):
    found = admit(submission(record), record, "arm", image_size_px=size_px)
    assert isinstance(found, Refused)
    assert found.code == "picture-size"
    assert "of arm: pictures of 64 x 64 px (height, width)" in found.reason
    assert f"configured for {size_px[0]} x {size_px[1]}" in found.reason


def test_any_size_is_admitted_where_none_is_asked_for(record: bytes):
    assert isinstance(admit(submission(record), record, "arm"), Admitted)


def test_another_robots_record_and_a_changed_one_are_refused(record: bytes):
    stolen = admit(submission(record), record, "leg")
    assert isinstance(stolen, Refused)
    assert stolen.code == "robot-name"
    changed = admit(submission(record), record + b"!", "arm")
    assert isinstance(changed, Refused)
    assert changed.code == "digest"
    broken = admit(submission(b"no record"), b"no record", "arm")
    assert isinstance(broken, Refused)
    assert broken.code == "record"


NOWHERE = {
    "zeros": np.zeros((3, 4)),
    "ones": np.ones((3, 4)),
    "from infinitely far above": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]],
    "from infinitely far aside": [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    "two rows alike at any scale": [[1e9, 0, 0, 1], [1e-9, 0, 0, 2], [0, 0, 1, 1]],
}


@pytest.mark.parametrize("which", ["calibration", "hand_eye_map"])
@pytest.mark.parametrize("matrix", NOWHERE.values(), ids=NOWHERE)
def test_a_map_whose_camera_stands_nowhere_is_refused(which: str, matrix: object):
    changed = {which: np.array(matrix, np.float32)}
    record = encode_episode(replace(make_episode("arm", side_px=64), **changed))
    found = admit(submission(record), record, "arm")
    assert isinstance(found, Refused)
    assert found.code == "record"
    assert f"its {which} is of no camera" in found.reason


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("view_deg", [1.0, 40.0, 150.0])
def test_the_scale_of_a_map_and_the_lens_of_its_camera_are_free(scale: float, view_deg: float):
    camera = pinhole_map(
        position_m=(-0.3, 0.1, 0.4), look_at_m=(0.0, 0.0, 0.0), vertical_fov_deg=view_deg
    )
    matrix = (scale * camera.matrix).astype(np.float32)
    episode = replace(make_episode("arm", side_px=64), calibration=matrix, hand_eye_map=matrix)
    record = encode_episode(episode)
    assert isinstance(admit(submission(record), record, "arm"), Admitted)
