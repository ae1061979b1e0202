"""Episode records and the JPEG files in them."""

from __future__ import annotations

import struct
from itertools import pairwise
from random import Random
from typing import Any

import cv2
import numpy as np

from protocol.codec import decode_episode, encode_episode, read_episode_meta
from protocol.jpeg import check_jpeg_sizes, decode_jpeg, encode_jpeg, jpeg_size
from protocol.limits import EPISODE_LIMITS
from tests.episodes import make_episode, make_image
from tests.fuzz.byte_mutation import mutate_bytes
from tests.fuzz.fuzz_target import FuzzTarget
from tests.fuzz.tree_mutation import Pairs, mutate_tree, pack, unpack

_PREFIX = struct.Struct("<4sHI")
_MAX_DECODED_PX = 2**20
"""Headers may announce what is within the limits and yet slow; that it is right is seen small."""


def record_seeds() -> list[bytes]:
    """Small records: one, three and no steps."""
    return [encode_episode(make_episode("arm", seed, seed, side_px=16)) for seed in (1, 3)]


def mutate_record(record: bytes, random: Random) -> bytes:
    """Change the meta as a tree or an image's bytes, and let the sizes fit most of the time."""
    meta, images = _taken_apart(record)
    if random.random() < 0.6:
        return _put_together(mutate_tree(meta, random), images)
    at = random.randrange(len(images))
    images[at] = mutate_jpeg(images[at], random)
    if random.random() < 0.8:
        sizes = [len(image) for image in images]
        meta = Pairs((key, sizes if key == "image_bytes" else value) for key, value in meta)
    return _put_together(meta, images)


def mutate_jpeg(blob: bytes, random: Random) -> bytes:
    """Change a JPEG file; every second time it is still one from start to end."""
    changed = mutate_bytes(blob, random)
    if random.random() < 0.5:
        return b"\xff\xd8" + changed[2:-2] + b"\xff\xd9"
    return changed


def _taken_apart(record: bytes) -> tuple[Pairs, list[bytes]]:
    if len(record) < _PREFIX.size:
        raise ValueError("no record")
    _, _, meta_bytes = _PREFIX.unpack_from(record)
    start = _PREFIX.size + meta_bytes
    meta = Pairs(unpack(record[_PREFIX.size : start]))
    sizes = dict(meta)["image_bytes"]
    ends = [start]
    for size in sizes:
        ends.append(ends[-1] + size)
    images = [record[at:end] for at, end in pairwise(ends)]
    if not images:
        raise ValueError("no images")
    return meta, images


def _put_together(meta: Any, images: list[bytes]) -> bytes:
    packed = pack(meta)
    return _PREFIX.pack(b"GFEP", 1, len(packed)) + packed + b"".join(images)


def _run_record(data: bytes) -> str:
    meta = read_episode_meta(data)
    assert len(meta.image_bytes) == len(meta.steps) + 2
    pixels = meta.height_px * meta.width_px * len(meta.image_bytes)
    assert pixels <= EPISODE_LIMITS.pixels
    if pixels > _MAX_DECODED_PX:
        return "large"
    episode = decode_episode(data)
    assert episode.first_image.shape == (meta.height_px, meta.width_px, 3)
    assert np.isfinite(episode.calibration).all()
    assert np.isfinite(episode.hand_eye_map).all()
    return f"{episode.mode} {episode.outcome.label} {len(episode.steps)} steps"


def _run_jpeg(data: bytes) -> str:
    height_px, width_px = jpeg_size(data)
    check_jpeg_sizes(data * 2, 0, [len(data)] * 2, height_px=height_px, width_px=width_px)
    if height_px * width_px > _MAX_DECODED_PX:
        return "large"
    image = decode_jpeg(data, height_px=height_px, width_px=width_px)
    assert image.shape == (height_px, width_px, 3)
    return f"{height_px.bit_length()} x {width_px.bit_length()}"


def _jpeg_seeds() -> list[bytes]:
    image = make_image(np.random.default_rng(1), 16)
    options = [
        [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
        [cv2.IMWRITE_JPEG_RST_INTERVAL, 1],
        [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
        [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411],
    ]
    others = [bytes(cv2.imencode(".jpg", image, option)[1]) for option in options]
    return [encode_jpeg(image), *others]


RECORD_TARGETS = [
    FuzzTarget(
        name="episode_record",
        prepare=lambda: _run_record,
        seeds=record_seeds,
        mutate=mutate_record,
        share=2.0,
    ),
    FuzzTarget(
        name="jpeg",
        prepare=lambda: _run_jpeg,
        seeds=_jpeg_seeds,
        mutate=mutate_jpeg,
        max_bytes=16_384,
    ),
]
