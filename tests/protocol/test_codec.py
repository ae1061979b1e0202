"""Episode records: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import dataclasses
import math
import os
import struct
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codec import (
    decode_episode,
    decode_message,
    digest,
    encode_episode,
    encode_message,
    read_episode_meta,
    read_episode_summary,
)
from protocol.episode import Episode, GripperPose, Label, Mode, Step, StepKind
from protocol.errors import RejectedEpisodeError, RejectedMessageError
from protocol.jpeg import check_jpeg_sizes, decode_jpeg, encode_jpeg, jpeg_size
from protocol.limits import EPISODE_LIMITS
from protocol.messages import Ack, FromGateway, Heartbeat, Refusal, ToGateway
from tests.delivery_site import make_heartbeat
from tests.episodes import make_episode, make_image

GOLDEN = Path(__file__).parent / "golden" / "episode-record-v1.bin"
EPISODE = make_episode("arm", seed=7)
RECORD = encode_episode(EPISODE)
GOLDEN_CALIBRATION = np.array(
    [
        [0.68291026, -0.06651732, 0.66724753, 1.4385226],
        [-0.6756623, 0.2031386, -0.4633076, 0.12726842],
        [-1.1871946, -0.5793016, -0.19619597, 0.8987639],
    ],
    np.float32,
)


def without_images(episode: Episode) -> dict[str, object]:
    """Return every field but the images, in a form that compares by value."""
    kept = {
        field.name: getattr(episode, field.name)
        for field in dataclasses.fields(episode)
        if field.name not in {"first_image", "last_image", "steps"}
    }
    for name in ("calibration", "hand_eye_map"):
        kept[name] = getattr(episode, name).tolist()
    blank = np.zeros((1, 1, 3), np.uint8)
    kept["steps"] = [
        dataclasses.replace(
            step, observation=dataclasses.replace(step.observation, image=blank)
        ).__repr__()
        for step in episode.steps
    ]
    return kept


def changed(episode: Episode, **changes: object) -> Episode:
    return dataclasses.replace(episode, **changes)


def with_step(**changes: object) -> Episode:
    *before, last = EPISODE.steps
    return changed(EPISODE, steps=(*before, dataclasses.replace(last, **changes)))


def patched_meta(**changes: object) -> bytes:
    """Return the record with some of its meta replaced, past all checks of the encoder."""
    meta_bytes = int.from_bytes(RECORD[6:10], "little")
    meta = msgspec.msgpack.decode(RECORD[10 : 10 + meta_bytes]) | changes
    packed = msgspec.msgpack.encode(meta)
    return RECORD[:6] + len(packed).to_bytes(4, "little") + packed + RECORD[10 + meta_bytes :]


@given(seed=st.integers(0, 2**31), steps=st.integers(1, 12), success=st.booleans())
@settings(max_examples=15, deadline=None)
def test_an_episode_comes_out_as_it_went_in(seed: int, steps: int, success: bool):
    episode = make_episode("arm", seed, steps, success)
    decoded = decode_episode(encode_episode(episode))
    assert without_images(decoded) == without_images(episode)
    pairs = [(episode.first_image, decoded.first_image), (episode.last_image, decoded.last_image)]
    pairs += [
        (one.observation.image, other.observation.image)
        for one, other in zip(episode.steps, decoded.steps, strict=True)
    ]
    for sent, received in pairs:
        assert received.shape == sent.shape
        assert np.abs(received.astype(int) - sent).mean() < 12


def test_colours_are_not_swapped():
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 250
    decoded = decode_episode(encode_episode(changed(EPISODE, first_image=red)))
    assert decoded.first_image[..., 0].min() > 230
    assert decoded.first_image[..., 1:].max() < 20


def test_an_aborted_attempt_needs_no_steps():
    outcome = dataclasses.replace(EPISODE.outcome, label=Label.ABORTED, abort_reason="no picture")
    aborted = changed(EPISODE, steps=(), outcome=outcome)
    assert decode_episode(encode_episode(aborted)).outcome == outcome


def test_the_summary_is_read_without_decoding_images():
    summary = read_episode_summary(RECORD)
    assert (summary.episode_id, summary.robot_id) == (EPISODE.episode_id, "arm")
    assert (summary.step_count, summary.height_px, summary.width_px) == (4, 64, 64)
    assert summary.outcome == EPISODE.outcome
    assert summary.policy == EPISODE.policy
    assert summary.mode is Mode.RANDOM


def test_records_of_version_1_can_be_read_for_ever():
    record = GOLDEN.read_bytes()
    assert (
        digest(record).hex() == "14185104f77acd77c65ac737880ca33ed803ef44ee1e744a814cfdcf975c73ae"
    )
    expected = changed(EPISODE, calibration=GOLDEN_CALIBRATION)
    assert without_images(decode_episode(record)) == without_images(expected)


@given(noise=st.binary(max_size=2000))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_refused_and_nothing_worse(noise: bytes):
    for record in (noise, RECORD[:10] + noise, RECORD[:6] + b"\x10\x00\x00\x00" + noise):
        with pytest.raises(RejectedEpisodeError):
            decode_episode(record)


@given(at=st.integers(0, len(RECORD) - 1), flip=st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_a_flipped_byte_changes_the_digest_and_never_crashes_the_decoder(at: int, flip: int):
    record = bytearray(RECORD)
    record[at] ^= flip
    damaged = bytes(record)
    assert digest(damaged) != digest(RECORD)
    try:
        decode_episode(damaged)
    except RejectedEpisodeError:
        return
    assert read_episode_summary(damaged).height_px == 64


@given(cut=st.integers(0, len(RECORD) - 1))
@settings(max_examples=100, deadline=None)
def test_a_record_that_is_cut_short_is_refused(cut: int):
    with pytest.raises(RejectedEpisodeError):
        decode_episode(RECORD[:cut])


@pytest.mark.parametrize(
    ("episode", "says"),
    [
        (with_step(predicted_best=math.nan), "predicted_best"),
        (with_step(decision_ms=math.inf), "decision_ms"),
        (with_step(predicted_best=1.5), "predicted_best"),
        (changed(EPISODE, hand_eye_map=np.full((3, 4), np.nan, np.float32)), "hand_eye_map"),
        (changed(EPISODE, calibration=np.zeros((2, 4), np.float32)), "calibration"),
        (changed(EPISODE, episode_id="../../etc/passwd"), "episode_id"),
        (changed(EPISODE, robot_id="a robot\n"), "robot_id"),
        (changed(EPISODE, robot_id="arm\n"), "robot_id"),
        (changed(EPISODE, episode_id=EPISODE.episode_id + "\n"), "episode_id"),
        (changed(EPISODE, task="x" * 513), "513 characters exceeds 512"),
        (changed(EPISODE, started_at_ns=-1), "started_at_ns"),
        (changed(EPISODE, steps=EPISODE.steps[:-1]), "never closed"),
        (changed(EPISODE, steps=()), "never closed"),
        (changed(EPISODE, last_image=make_image(np.random.default_rng(0), 32)), "32 x 32"),
        (changed(EPISODE, last_image=np.zeros((64, 64), np.uint8)), "not a uint8"),
        (changed(EPISODE, steps=EPISODE.steps[-1:] * 257), "257 steps exceeds 256"),
    ],
)
def test_an_episode_that_the_learner_would_refuse_is_not_even_encoded(episode: Episode, says: str):
    with pytest.raises(RejectedEpisodeError, match=says):
        encode_episode(episode)


def test_a_pose_that_is_not_finite_is_refused():
    observation = dataclasses.replace(
        EPISODE.steps[-1].observation,
        pose=GripperPose(x_m=math.nan, y_m=0.0, z_m=0.0, yaw_rad=0.0),
    )
    with pytest.raises(RejectedEpisodeError, match="pose"):
        encode_episode(with_step(observation=observation))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"surprise": 1}, "unknown field"),
        ({"height_px": 63}, "the episode says 63 x 64"),
        ({"height_px": 65_535, "width_px": 65_535}, "65535 px exceeds 2048"),
        ({"image_bytes": [1, 2, 3]}, "3 images for 4 steps"),
        ({"image_bytes": [2**40] * 6}, "exceeds 2097152"),
        ({"image_bytes": [100] * 6}, "600 bytes announced"),
        ({"image_bytes": [-1] * 6}, "image_bytes"),
        ({"steps": []}, "never closed"),
        ({"finished_at_ns": 2**63}, "finished_at_ns"),
    ],
)
def test_a_meta_that_does_not_fit_is_refused(changes: dict[str, object], says: str):
    with pytest.raises(RejectedEpisodeError, match=says):
        read_episode_summary(patched_meta(**changes))


def test_a_record_of_another_version_is_refused():
    with pytest.raises(RejectedEpisodeError, match="version 2, but this side reads 1"):
        decode_episode(RECORD[:4] + b"\x02\x00" + RECORD[6:])


def test_a_record_over_the_limit_is_refused_before_it_is_read():
    with pytest.raises(RejectedEpisodeError, match="exceeds 8388608"):
        decode_episode(b"\0" * (EPISODE_LIMITS.record_bytes + 1))


def test_the_header_of_an_image_is_believed_only_if_it_is_the_pictures_own():
    blob = bytearray(encode_jpeg(make_image(np.random.default_rng(1))))
    frame = blob.index(b"\xff\xc0")
    blob[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    assert jpeg_size(bytes(blob)) == (65535, 65535)
    with pytest.raises(RejectedEpisodeError):
        jpeg_size(b"\x89PNG" + bytes(blob))


def check_in_a_row(kind: type, *blobs: bytes) -> None:
    data = kind(b"meta" + b"".join(blobs))
    check_jpeg_sizes(data, 4, [len(blob) for blob in blobs], height_px=64, width_px=64)


@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_images_of_cameras_whose_files_begin_differently_are_taken_together(kind: type):
    ours = encode_jpeg(make_image(np.random.default_rng(1)))
    _, other = cv2.imencode(".jpg", make_image(np.random.default_rng(2)))
    check_in_a_row(kind, ours, bytes(other), ours)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_one_image_among_others_must_be_whole_and_of_their_size(place: int, kind: type):
    blobs = [encode_jpeg(make_image(np.random.default_rng(seed))) for seed in range(3)]
    wrong = {
        "an image of 32 x 64": encode_jpeg(make_image(np.random.default_rng(9))[:32]),
        "not a whole JPEG": blobs[place][:-2] + b"\0\0",
        # As long as the file's head, which may thus not be mistaken for a file.
        "JPEG": blobs[0][: blobs[0].index(b"\xff\xc0") + 8] + b"\xff\xd9",
    }
    for says, blob in wrong.items():
        with pytest.raises(RejectedEpisodeError, match=says):
            check_in_a_row(kind, *blobs[:place], blob, *blobs[place + 1 :])


@pytest.mark.parametrize("progressive", [0, 1])
def test_only_the_kind_of_jpeg_that_robots_write_is_taken(progressive: int):
    image = make_image(np.random.default_rng(1))
    _, blob = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
    if progressive:
        with pytest.raises(RejectedEpisodeError, match="supported kind"):
            jpeg_size(bytes(blob))
    else:
        assert jpeg_size(bytes(blob)) == (64, 64)


def test_a_picture_with_more_segments_than_any_camera_writes_is_refused_before_all_are_read():
    blob = encode_jpeg(make_image(np.random.default_rng(1)))
    own = blob[: blob.index(b"\xff\xc0")].count(b"\xff") - 1
    empty = b"\xff\xe0\x00\x02"
    assert jpeg_size(blob[:2] + (64 - own) * empty + blob[2:]) == (64, 64)
    for more in (65 - own, 500_000):
        with pytest.raises(RejectedEpisodeError, match="64 segments"):
            jpeg_size(blob[:2] + more * empty + blob[2:])


@pytest.mark.parametrize("quality", [1, 50, 92, 100])
@pytest.mark.parametrize("side_px", [8, 64, 512])
def test_the_worst_of_honest_pictures_has_far_fewer_bytes_than_its_pixels_may_have(
    quality: int, side_px: int
):
    specks = np.random.default_rng(1).integers(0, 2, (side_px, side_px, 3), np.uint8) * 255
    whole = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, blob = cv2.imencode(".jpg", specks, [cv2.IMWRITE_JPEG_QUALITY, quality, *whole])
    own = EPISODE_LIMITS.image_bytes_per_pixel * specks[..., 0].size
    assert len(blob) < 0.65 * own + 1_000
    assert specks.nbytes < 0.5 * own


@pytest.mark.parametrize("surplus", [0, 1])
def test_a_picture_of_more_bytes_than_its_pixels_may_have_is_refused_unopened(surplus: int):
    most = EPISODE_LIMITS.image_extra_bytes + EPISODE_LIMITS.image_bytes_per_pixel * 64 * 64
    first, *others = read_episode_meta(RECORD).image_bytes
    note_bytes = most + surplus - first
    halves = (note_bytes // 2, note_bytes - note_bytes // 2)
    notes = b"".join(b"\xff\xfe" + struct.pack(">H", n - 2) + bytes(n - 4) for n in halves)
    record = patched_meta(image_bytes=[most + surplus, *others])
    begin = len(record) - first - sum(others)
    record = record[: begin + 2] + notes + record[begin + 2 :]
    if surplus:
        with pytest.raises(RejectedEpisodeError, match=f"{most + 1} bytes exceeds {most} for 64"):
            read_episode_summary(record)
    else:
        assert len(decode_episode(record).steps) == 4


def test_a_picture_of_many_empty_scans_is_refused_before_it_is_decoded():
    blob = encode_jpeg(make_image(np.random.default_rng(1)))
    assert blob.count(b"\xff\xda") == 1
    scan_at = blob.index(b"\xff\xda")
    empty = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00"
    decode_jpeg(blob[:scan_at] + 2 * empty + blob[scan_at:], height_px=64, width_px=64)
    for more in (3, 8_000):
        scans = blob[:scan_at] + more * empty + blob[scan_at:]
        with pytest.raises(RejectedEpisodeError, match=f"{more + 1} scans exceeds 3"):
            decode_jpeg(scans, height_px=64, width_px=64)


def test_the_pixels_of_all_images_together_are_limited():
    limits = dataclasses.replace(EPISODE_LIMITS, pixels=6 * 64 * 64)
    assert len(decode_episode(RECORD, limits).steps) == 4
    limits = dataclasses.replace(EPISODE_LIMITS, pixels=6 * 64 * 64 - 1)
    with pytest.raises(RejectedEpisodeError, match="24576 pixels in all exceeds 24575"):
        decode_episode(RECORD, limits)


def test_a_move_after_which_nothing_closes_is_a_move():
    step: Step = EPISODE.steps[0]
    assert decode_episode(RECORD).steps[0].kind is step.kind is StepKind.MOVE


def test_a_message_comes_out_as_it_went_in():
    heartbeat = make_heartbeat(release_version=3)
    assert decode_message(encode_message(heartbeat), ToGateway) == heartbeat


def test_words_that_no_utf8_can_say_go_out_with_a_question_mark_in_their_place():
    name = os.fsdecode(b"gr\xfcn")
    refusal = Refusal(code="malformed", reason=f"{name}: grün", spool_id=b"\xff" * 16, sequence=3)
    told = decode_message(encode_message(refusal), FromGateway)
    assert told == msgspec.structs.replace(refusal, reason="gr?n: grün")
    heartbeat = msgspec.structs.replace(make_heartbeat(), warnings=[name, "well"])
    assert decode_message(encode_message(heartbeat), ToGateway).warnings == ["gr?n", "well"]


def test_a_message_of_the_other_direction_is_refused():
    ack = Ack(spool_id=bytes(16), sequences=[1])
    assert decode_message(encode_message(ack), FromGateway) == ack
    with pytest.raises(RejectedMessageError):
        decode_message(encode_message(ack), ToGateway)


def test_a_heartbeat_that_is_not_finite_is_refused():
    fields = msgspec.structs.asdict(make_heartbeat()) | {"type": "heartbeat"}
    fields["decision_ms_p50"] = math.nan
    with pytest.raises(RejectedMessageError, match="decision_ms_p50"):
        decode_message(msgspec.msgpack.encode(fields), ToGateway)
    assert isinstance(make_heartbeat(), Heartbeat)


@given(noise=st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_no_message(noise: bytes):
    with pytest.raises(RejectedMessageError):
        decode_message(noise, ToGateway)
