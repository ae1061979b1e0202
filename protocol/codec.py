"""Episode records and message headers: to bytes and, with every check, back.

A record is the same bytes in the outbox, on the wire and in the store:

    "GFEP"   version: u16   meta size: u32   meta: MessagePack   JPEG images, without a gap

integers little-endian. Whoever reads a record trusts nothing in it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import Any, cast

import msgspec

from protocol.episode import (
    Episode,
    GraspOutcome,
    ImageArray,
    Label,
    Mode,
    PolicyIdentity,
    StepKind,
)
from protocol.episode_meta import EpisodeMeta, episode_from, meta_of, texts
from protocol.errors import RejectedEpisodeError, RejectedMessageError
from protocol.jpeg import check_jpeg_sizes, decode_jpeg, encode_jpeg
from protocol.limits import EPISODE_LIMITS, MAX_HEADER_BYTES, EpisodeLimits

RECORD_VERSION = 1

_MAGIC = b"GFEP"
_PREFIX = struct.Struct("<4sHI")
_meta_encoder = msgspec.msgpack.Encoder()
_meta_decoder = msgspec.msgpack.Decoder(EpisodeMeta)
_NOT_THE_SCHEMA = (msgspec.MsgspecError, ValueError, RecursionError)


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeSummary:
    """An episode without its steps and pictures."""

    episode_id: str
    robot_id: str
    task: str
    mode: Mode
    policy: PolicyIdentity
    started_at_ns: int
    finished_at_ns: int
    step_count: int
    decision_ms: tuple[float, ...]
    """Wall time of every decision that a network made."""
    height_px: int
    width_px: int
    outcome: GraspOutcome


def digest(record: bytes | memoryview) -> bytes:
    """Return the sha256 of a record, 32 bytes."""
    return hashlib.sha256(record).digest()


def encode_episode(episode: Episode, limits: EpisodeLimits = EPISODE_LIMITS) -> bytes:
    """Return the record of an episode.

    Raises:
        RejectedEpisodeError: a value is not finite or out of range, the images differ in size, or
            the record would exceed the limits; the learner would refuse it.
    """
    images = [episode.first_image, episode.last_image]
    images += [step.observation.image for step in episode.steps]
    blobs = [encode_jpeg(image) for image in images]
    try:
        meta = meta_of(episode, [len(blob) for blob in blobs])
    except (*_NOT_THE_SCHEMA, TypeError) as error:
        raise RejectedEpisodeError(f"episode {episode.episode_id}: {error}") from error
    packed = _meta_encoder.encode(meta)
    record = b"".join((_PREFIX.pack(_MAGIC, RECORD_VERSION, len(packed)), packed, *blobs))
    read_episode_summary(record, limits)
    return record


def decode_episode(record: bytes, limits: EpisodeLimits = EPISODE_LIMITS) -> Episode:
    """Return the episode of a record, images as JPEG kept them.

    Raises:
        RejectedEpisodeError: anything in the record is not what it must be.
    """
    meta, begin = _open_record(record, limits)
    bounds = accumulate(meta.image_bytes, initial=begin)
    images: list[ImageArray] = [
        decode_jpeg(record[start:end], height_px=meta.height_px, width_px=meta.width_px)
        for start, end in pairwise(bounds)
    ]
    return episode_from(meta, images)


def read_episode_meta(
    record: bytes | memoryview, limits: EpisodeLimits = EPISODE_LIMITS
) -> EpisodeMeta:
    """Check everything but the compressed pixels of a record; return what stands beside them.

    Raises:
        RejectedEpisodeError: anything in the record is not what it must be.
    """
    return _open_record(record, limits)[0]


def read_episode_summary(record: bytes, limits: EpisodeLimits = EPISODE_LIMITS) -> EpisodeSummary:
    """Check a record as ``read_episode_meta`` does; return what it is about.

    Raises:
        RejectedEpisodeError: anything in the record is not what it must be.
    """
    meta = read_episode_meta(record, limits)
    return EpisodeSummary(
        episode_id=meta.episode_id,
        robot_id=meta.robot_id,
        task=meta.task,
        mode=meta.mode,
        policy=msgspec.convert(meta.policy, PolicyIdentity, from_attributes=True),
        started_at_ns=meta.started_at_ns,
        finished_at_ns=meta.finished_at_ns,
        step_count=len(meta.steps),
        decision_ms=tuple(
            step.decision_ms for step in meta.steps if step.predicted_best is not None
        ),
        height_px=meta.height_px,
        width_px=meta.width_px,
        outcome=msgspec.convert(meta.outcome, GraspOutcome, from_attributes=True),
    )


def encode_message(message: msgspec.Struct) -> bytes:
    """Return the header frame of a message of protocol.messages.

    What no UTF-8 can say goes out as "?": a file's name, in the words of an error, is any bytes.
    """
    try:
        return msgspec.msgpack.encode(message)
    except UnicodeEncodeError:
        return msgspec.msgpack.encode(_sayable(msgspec.to_builtins(message, builtin_types=[bytes])))


def decode_message(header: bytes, union: Hashable, max_bytes: int = MAX_HEADER_BYTES) -> Any:  # noqa: ANN401 (one of the union, which no annotation can say)
    """Return the message of a header frame, one of ``union`` such as ``messages.ToGateway``.

    Raises:
        RejectedMessageError: it is too large, not MessagePack, of an unknown kind, has an unknown
            field, or a value of the wrong type or range.
    """
    if len(header) > max_bytes:
        raise RejectedMessageError(f"message header: {len(header)} bytes exceeds {max_bytes}")
    try:
        return _message_decoder(union).decode(header)
    except _NOT_THE_SCHEMA as error:
        raise RejectedMessageError(f"message header: {error}") from error


def _sayable(value: Any) -> Any:  # noqa: ANN401 (whatever stands in a message)
    """Return the same of built-in types, in texts that UTF-8 can say."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_sayable(key): _sayable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_sayable(one) for one in value]
    return value


@cache
def _message_decoder(union: Hashable) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(cast(Any, union))


def _open_record(record: bytes | memoryview, limits: EpisodeLimits) -> tuple[EpisodeMeta, int]:
    """Check a record; return its meta and where that ends, which is where the images begin."""
    meta_end = _check_prefix(record, limits)
    try:
        meta = _meta_decoder.decode(memoryview(record)[_PREFIX.size : meta_end])
    except _NOT_THE_SCHEMA as error:
        raise RejectedEpisodeError(f"episode record: {error}") from error
    _check_meta(meta, limits)
    _check_images(record, meta_end, meta, limits)
    return meta, meta_end


def _check_prefix(record: bytes | memoryview, limits: EpisodeLimits) -> int:
    """Return where the meta ends."""
    if len(record) > limits.record_bytes:
        raise RejectedEpisodeError(
            f"episode record: {len(record)} bytes exceeds {limits.record_bytes}"
        )
    if len(record) < _PREFIX.size:
        raise RejectedEpisodeError(f"episode record: {len(record)} bytes is no record")
    magic, version, meta_bytes = _PREFIX.unpack_from(record)
    if magic != _MAGIC:
        raise RejectedEpisodeError(f"episode record: begins with {magic!r}, not {_MAGIC!r}")
    if version != RECORD_VERSION:
        raise RejectedEpisodeError(
            f"episode record: version {version}, but this side reads {RECORD_VERSION}"
        )
    if meta_bytes > limits.meta_bytes:
        raise RejectedEpisodeError(
            f"episode record: meta of {meta_bytes} bytes exceeds {limits.meta_bytes}"
        )
    if _PREFIX.size + meta_bytes > len(record):
        raise RejectedEpisodeError(
            f"episode record: meta of {meta_bytes} bytes in a record of {len(record)}"
        )
    return _PREFIX.size + int(meta_bytes)


def _check_meta(meta: EpisodeMeta, limits: EpisodeLimits) -> None:
    name = f"episode {meta.episode_id}"
    if len(meta.steps) > limits.steps:
        raise RejectedEpisodeError(f"{name}: {len(meta.steps)} steps exceeds {limits.steps}")
    longest = max(map(len, texts(meta)))
    if longest > limits.text_chars:
        raise RejectedEpisodeError(
            f"{name}: a text of {longest} characters exceeds {limits.text_chars}"
        )
    side_px = max(meta.height_px, meta.width_px)
    if side_px > limits.image_side_px:
        raise RejectedEpisodeError(
            f"{name}: an image side of {side_px} px exceeds {limits.image_side_px}"
        )
    pixels = meta.height_px * meta.width_px * (2 + len(meta.steps))
    if pixels > limits.pixels:
        raise RejectedEpisodeError(f"{name}: {pixels} pixels in all exceeds {limits.pixels}")
    if meta.outcome.label != Label.ABORTED and (
        not meta.steps or meta.steps[-1].kind != StepKind.CLOSE
    ):
        raise RejectedEpisodeError(f"{name}: labelled {meta.outcome.label} but never closed")


def _check_images(
    record: bytes | memoryview, begin: int, meta: EpisodeMeta, limits: EpisodeLimits
) -> None:
    name = f"episode {meta.episode_id}"
    sizes = meta.image_bytes
    if len(sizes) != 2 + len(meta.steps):
        raise RejectedEpisodeError(
            f"{name}: {len(sizes)} images for {len(meta.steps)} steps; two more are expected"
        )
    if max(sizes) > limits.image_bytes:
        raise RejectedEpisodeError(
            f"{name}: an image of {max(sizes)} bytes exceeds {limits.image_bytes}"
        )
    pixels = meta.height_px * meta.width_px
    most = limits.image_extra_bytes + limits.image_bytes_per_pixel * pixels
    if max(sizes) > most:
        raise RejectedEpisodeError(
            f"{name}: an image of {max(sizes)} bytes exceeds {most} for {meta.height_px} x "
            f"{meta.width_px} pixels"
        )
    found_bytes = len(record) - begin
    if sum(sizes) != found_bytes:
        raise RejectedEpisodeError(
            f"{name}: images of {sum(sizes)} bytes announced, {found_bytes} found"
        )
    try:
        check_jpeg_sizes(record, begin, sizes, height_px=meta.height_px, width_px=meta.width_px)
    except RejectedEpisodeError as error:
        raise RejectedEpisodeError(f"{name}: {error}") from error
