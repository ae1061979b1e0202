"""docs/protocol.md says what the code does: no field, limit, code or example of it can drift."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, get_args

import msgpack
import msgspec
import numpy as np
import pytest
import zmq
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fleet.enrolment import LearnerAddress, enrol_robot, ensure_learner_keys
from fleet.key_rotation import KeyRotation
from learner.config import GatewayConfig, ReleasesConfig
from protocol import limits, messages
from protocol.codec import decode_message, digest, encode_message, read_episode_meta
from protocol.episode_meta import EpisodeMeta
from protocol.hand_eye import HandEyeMap
from protocol.key_notice import verify_key_notice
from protocol.refusal_code import RefusalCode
from protocol.registry import Registry
from protocol.release import MAGIC, RANDOM_POLICY_DIGEST, policy_digest, unpack_release
from protocol.release_manifest import ReleaseManifest
from protocol.release_order import open_order
from protocol.release_packing import unpack_release_file
from protocol.security import create_curve_keys
from protocol.sockets import SocketLimits, make_dealer
from robot_agent.policy.graph_session import FLOAT32, UINT8
from robot_agent.policy.q_function import ENCODE_INPUTS, SCORE_INPUTS
from tests.protocol import protocol_document as document
from tests.protocol.older_versions import DEFINITIONS

UNIONS = {
    ("outside", "gateway"): messages.ToGateway,
    ("gateway", "outside"): messages.FromGateway,
    ("outside", "release server"): messages.ToReleaseServer,
    ("release server", "outside"): messages.FromReleaseServer,
}
SERVERS = {"gateway", "release server"}
MESSAGES = {document.name_of(kind): kind for union in UNIONS.values() for kind in get_args(union)}
WIRE_TYPES = {
    document.name_of(inner): inner
    for kind in (*MESSAGES.values(), messages.ReleaseOrder)
    for inner in document.nested(kind)
}
TYPES = WIRE_TYPES | {
    document.name_of(inner): inner
    for kind in (EpisodeMeta, ReleaseManifest)
    for inner in document.nested(kind)
}


def union_of(name: str) -> Any:
    return next(union for union in UNIONS.values() if MESSAGES[name] in get_args(union))


def first_version_with(name: str, field: str | None) -> int:
    """Return the first wire version that knows a type, and the field of it if one is named."""
    for version, definitions in DEFINITIONS.items():
        known = definitions["types"].get(name)
        if known is not None and (field is None or field in known):
            return version
    return messages.WIRE_VERSION


def verify_key() -> Any:
    (pem,) = document.section("Example: a release file").blocks("text")
    return load_pem_public_key(pem.encode())


def test_every_message_and_every_type_has_a_section_and_no_other_is_named():
    named = [one.name for one in document.sections() if one.title.startswith("`")]
    assert sorted(named) == sorted(TYPES)


@pytest.mark.parametrize("name", sorted(TYPES))
def test_a_table_names_every_field_with_its_type_its_range_and_its_default(name: str):
    stated = [
        {
            "field": "".join(document.code_words(row["field"])),
            "type": "".join(document.code_words(row["type"])),
            "default": "".join(document.code_words(row["default"])) or "required",
        }
        for row in document.section(name).rows()
    ]
    assert stated == document.field_rows(TYPES[name])
    assert all(row["meaning"] for row in document.section(name).rows())


@pytest.mark.parametrize("name", sorted(TYPES))
def test_a_title_says_which_types_travel_as_arrays(name: str):
    is_array = TYPES[name].__struct_config__.array_like
    assert document.section(name).title.endswith(": array") == is_array


@pytest.mark.parametrize("name", sorted(WIRE_TYPES))
def test_a_table_says_since_which_version_a_field_travels(name: str):
    stated = {
        document.code_words(row["field"])[0]: int(row["since"])
        for row in document.section(name).rows()
    }
    assert stated == {field: first_version_with(name, field) for field in stated}


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_a_title_says_who_sends_a_message_to_whom(name: str):
    sender, receiver = document.section(name).title.split(": ")[1].split(" → ")
    found = {pair for pair, union in UNIONS.items() if MESSAGES[name] in get_args(union)}
    if len(found) > 1:
        found = {("learner", "outside")}  # from both of its sockets
    outside = {"robot": "outside", "operator": "outside"}
    assert {(outside.get(sender, sender), outside.get(receiver, receiver))} == found


def test_the_overview_lists_every_message_of_every_direction():
    stated = set()
    for row in document.section("Overview").rows():
        (name,) = document.code_words(row["message"])
        server = ({row["from"], row["to"]} & SERVERS).pop()
        stated.add((name, server, server == row["to"]))
        assert int(row["since"]) == first_version_with(name, None)
    assert stated == {
        (document.name_of(kind), *((target, True) if target in SERVERS else (source, False)))
        for (source, target), union in UNIONS.items()
        for kind in get_args(union)
    }


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_an_example_is_what_the_reference_implementation_reads(name: str):
    section = document.section(name)
    assert document.as_text(document.reference_decode(section.hex())) == document.as_text(
        section.json()
    )
    assert set(section.json()) == {
        "type",
        *(row["field"] for row in document.field_rows(MESSAGES[name])),
    }, "an example shows every field"


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_an_example_is_what_our_codec_reads_and_writes(name: str):
    header = document.section(name).hex()
    message = decode_message(header, union_of(name))
    assert isinstance(message, MESSAGES[name])
    assert encode_message(message) == header
    written_by_others = msgpack.packb(document.packable(document.section(name).json()))
    assert decode_message(written_by_others, union_of(name)) == message


def test_the_example_of_a_record_is_whole():
    section = document.section("Example: an episode record")
    record = section.hex()
    meta_end = 10 + int.from_bytes(record[6:10], "little")
    assert (record[:4], record[4:6]) == (b"GFEP", b"\x01\x00")
    assert document.as_text(document.reference_decode(record[10:meta_end])) == document.as_text(
        section.json()
    )
    assert encode_message(read_episode_meta(record)) == record[10:meta_end]
    assert f"{len(record)} bytes" in section.text
    assert hashlib.sha256(record).hexdigest() in section.text
    assert document.section("episode").json()["digest"] == f"0x{digest(record).hex()}"


def test_the_example_of_a_release_is_whole_and_signed():
    section = document.section("Example: a release file")
    data = section.hex()
    release = unpack_release(data, verify_key())
    manifest_end = 12 + int.from_bytes(data[8:12], "little")
    assert document.as_text(json.loads(data[12:manifest_end])) == document.as_text(section.json())
    assert msgspec.json.encode(release.manifest) == data[12:manifest_end]
    announced = document.section("release_announcement").json()
    assert (announced["digest"], announced["size_bytes"]) == (f"0x{release.digest}", len(data))
    refined = HandEyeMap(
        matrix=np.float32(section.json()["hand_eye_maps"]["arm-1"]["matrix"]).reshape(3, 4)
    )
    assert policy_digest(release, refined) in section.text
    assert release.digest in section.text


def test_the_example_of_a_packing_holds_the_example_of_a_release():
    data = document.section("Example: a release file").hex()
    packed = document.section("The packing").hex()
    assert len(packed) < len(data)
    assert unpack_release_file(packed, len(data)) == data


def test_the_tensors_of_the_graphs_are_those_that_an_agent_feeds():
    words = {UINT8: "uint8", FLOAT32: "float32"}
    expected = {
        (graph, f"in {name}", words[kind])
        for graph, inputs in (("encode", ENCODE_INPUTS), ("score", SCORE_INPUTS))
        for name, kind in inputs.items()
    } | {("encode", "out features", "float32"), ("score", "out success", "float32")}
    lines = document.section("The release file").text.splitlines()
    rows = [line.strip("|").split("|") for line in lines if re.match(r"\| (encode|score) ", line)]
    stated = {
        (graph.strip(), tensor.replace("`", "").strip(), re.split(r"[\[,]", kind)[0].strip())
        for graph, tensor, kind, _ in rows
    }
    assert stated == expected


def test_the_magic_of_a_release_is_stated():
    assert f"`{MAGIC.hex(' ')}`" in document.section("The release file").text


def test_the_examples_of_an_order_and_of_a_notice_are_signed():
    announced = decode_message(
        document.section("release_announcement").hex(), messages.FromReleaseServer
    )
    order = open_order(announced.order, verify_key())
    assert (order.version, order.digest) == (announced.version, announced.digest)
    assert msgpack.unpackb(announced.order.order) == list(msgspec.structs.astuple(order))
    verify_key_notice(
        decode_message(document.section("key_notice").hex(), messages.FromGateway), verify_key()
    )


def test_the_identity_of_the_random_policy_is_stated():
    assert RANDOM_POLICY_DIGEST in document.section("The policy's identity").text


@pytest.mark.parametrize(("title", "column"), [("Limits", "value"), ("Clocks", "seconds")])
def test_a_table_states_the_numbers_in_force(title: str, column: str):
    rows = document.section(title).rows()
    assert rows
    for row in rows:
        (name,) = document.code_words(row["where"])
        assert float(row[column]) == document.constant(name), name


def test_a_large_number_in_the_text_is_one_of_the_tables():
    stated = {row["value"] for row in document.section("Limits").rows()}
    stated |= {row["value"] for row in document.section("Socket options").rows()}
    for config in (GatewayConfig(), ReleasesConfig()):
        stated.add(config.bind.rpartition(":")[2])
    texts = [one.text for one in document.sections() if not one.title.startswith("Example")]
    prose = "".join(document.BLOCK.sub("", text) for text in texts)
    found = set(re.findall(r"(?<![\w./^:-])[1-9]\d{3,}(?![\w^]|\.\d)", prose))
    assert found - stated == set()


def test_a_bundle_holds_the_files_in_the_table(tmp_path: Path):
    registry = Registry(tmp_path / "registry")
    ensure_learner_keys(tmp_path / "keys", registry)
    KeyRotation(tmp_path / "keys", registry).begin()
    episodes, releases = "tcp://192.0.2.1:5701", "tcp://192.0.2.1:5702"
    address = LearnerAddress(keys=tmp_path / "keys", episodes=episodes, releases=releases)
    enrol_robot(registry, "arm-1", tmp_path / "bundle", address)
    found = {
        path.name: f"{stat.S_IMODE(path.stat().st_mode):04o}"
        for path in (tmp_path / "bundle").iterdir()
    }
    identity = document.section("Identity")
    assert found == {document.code_words(row["file"])[0]: row["mode"] for row in identity.rows()}
    (part,) = identity.blocks("toml")
    assert tomllib.loads(part) == tomllib.loads((tmp_path / "bundle/robot-part.toml").read_text())


def test_a_link_within_the_page_leads_to_a_heading():
    slugs = {
        re.sub(r"[^\w -]", "", one.title.lower()).replace(" ", "-") for one in document.sections()
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", document.DOCUMENT.read_text())) <= slugs


def test_every_limit_is_in_the_table():
    named = {document.code_words(row["where"])[0] for row in document.section("Limits").rows()}
    numbers = {
        f"protocol.limits.{name}"
        for name, value in vars(limits).items()
        if name.isupper() and isinstance(value, int | float)
    }
    fields = {
        f"protocol.limits.EPISODE_LIMITS.{field.name}"
        for field in dataclasses.fields(limits.EPISODE_LIMITS)
    }
    assert numbers | fields <= named


def test_the_socket_options_are_those_of_an_agent(tmp_path: Path):
    keys = create_curve_keys(tmp_path / "secret", tmp_path / "public")
    with zmq.Context() as context:
        socket = make_dealer(context, keys, keys.public, SocketLimits(frame_bytes=65_536))
        rows = document.section("Socket options").rows()
        stated = {document.code_words(row["option"])[0]: int(row["value"]) for row in rows}
        found = {name: socket.getsockopt(getattr(zmq, name)) for name in stated}
        socket.close()
    assert found == stated


def test_every_refusal_code_is_explained_and_no_other():
    used: dict[str, set[str]] = {}
    for room, server in (("ingestion", "gateway"), ("releases", "release server")):
        for path in (document.ROOT / "learner" / room).glob("*.py"):
            for name in re.findall(r"RefusalCode\.([A-Z_]+)", path.read_text()):
                used.setdefault(RefusalCode[name], set()).add(server)
    stated = {
        document.code_words(row["code"])[0]: set(row["from"].split(", ")) - {"with sequence"}
        for row in document.section("Refusals").rows()
    }
    assert stated == used
    assert used.keys() == set(RefusalCode)
