"""Golden bytes of every wire version, and what older versions understand of today's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from protocol import messages
from protocol.codec import decode_message, encode_message
from tests.protocol.older_versions import DEFINITIONS, complaints
from tests.protocol.protocol_document import name_of, readable, reference_decode

DIRECTIONS = ("ToGateway", "FromGateway", "ToReleaseServer", "FromReleaseServer")
GOLDEN = {
    version: json.loads((Path(__file__).parent / f"golden/wire-v{version}.json").read_text())
    for version in (1, 2, 3, 4, 5)
}
EVERY_MESSAGE = [(version, name) for version in GOLDEN for name in GOLDEN[version]["messages"]]


def directions_of(name: str) -> list[str]:
    return [
        direction
        for direction in DIRECTIONS
        if name in {name_of(kind) for kind in get_args(getattr(messages, direction))}
    ]


def golden(version: int, name: str) -> tuple[dict[str, Any], bytes]:
    entry = GOLDEN[version]["messages"][name]
    return entry["fields"], bytes.fromhex(entry["hex"])


def test_golden_bytes_are_kept_of_every_version_that_is_served():
    served = range(messages.OLDEST_WIRE_VERSION, messages.WIRE_VERSION + 1)
    assert [GOLDEN[version]["wire_version"] for version in served] == list(served)
    every = {name_of(kind) for side in DIRECTIONS for kind in get_args(getattr(messages, side))}
    assert set(GOLDEN[messages.WIRE_VERSION]["messages"]) == every


@pytest.mark.parametrize(("version", "name"), EVERY_MESSAGE)
def test_golden_bytes_say_what_is_written_beside_them(version: int, name: str):
    fields, header = golden(version, name)
    assert reference_decode(header) == fields


@pytest.mark.parametrize(("version", "name"), EVERY_MESSAGE)
def test_bytes_of_every_version_are_read(version: int, name: str):
    fields, header = golden(version, name)
    for direction in directions_of(name):
        message = decode_message(header, getattr(messages, direction))
        found = readable(msgspec.to_builtins(message, builtin_types=(bytes,)))
        assert found == with_defaults(fields, found)


def with_defaults(fields: Any, found: Any) -> Any:
    """Return ``fields`` with what only ``found`` has filled in, at any depth."""
    if isinstance(fields, dict):
        return {**found, **{key: with_defaults(fields[key], found.get(key)) for key in fields}}
    if isinstance(fields, list):
        return [with_defaults(*pair) for pair in zip(fields, found, strict=True)]
    return fields


@pytest.mark.parametrize("name", GOLDEN[messages.WIRE_VERSION]["messages"])
def test_today_writes_the_golden_bytes_of_its_own_version(name: str):
    _, header = golden(messages.WIRE_VERSION, name)
    for direction in directions_of(name):
        assert encode_message(decode_message(header, getattr(messages, direction))) == header


@pytest.mark.parametrize(
    ("version", "name"), [one for one in EVERY_MESSAGE if one[0] in DEFINITIONS]
)
def test_what_holds_nothing_new_is_written_so_that_an_older_version_reads_it(
    version: int, name: str
):
    _, header = golden(version, name)
    for direction in directions_of(name):
        message = decode_message(header, getattr(messages, direction))
        assert complaints(encode_message(message), direction, version) == []


@pytest.mark.parametrize(
    ("version", "name", "complaint"),
    [
        (1, "hello", "hello.process_id is unknown"),
        (1, "heartbeat", "heartbeat.next_server_key is unknown"),
        (1, "release_announcement", "release_announcement.order is unknown"),
        (1, "release_subscription", "release_subscription.wire_version is unknown"),
        (1, "key_notice", "no message 'key_notice'"),
        (2, "release_announcement", "release_announcement.packing is unknown"),
        (2, "chunk_request", "chunk_request.packed_from is unknown"),
        (2, "chunk", "chunk.packed_from is unknown"),
        (3, "hello", "hello.sent_on is unknown"),
        (3, "welcome", "welcome.gateways is unknown"),
        (3, "redirect", "no message 'redirect'"),
        (3, "heartbeat", "heartbeat.health is unknown"),
        (4, "stop", "no message 'stop'"),
        (4, "stop_confirmation", "no message 'stop_confirmation'"),
    ],
)
def test_an_older_version_would_refuse_what_is_new(version: int, name: str, complaint: str):
    _, header = golden(version + 1, name)
    assert complaints(header, directions_of(name)[0], version) == [complaint]
