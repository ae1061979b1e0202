"""Message headers, all four unions: what is taken is written and read again unchanged."""

from __future__ import annotations

import msgspec

from protocol.codec import decode_message, encode_message
from protocol.messages import (
    Ack,
    Chunk,
    ChunkRequest,
    EpisodeSubmission,
    FromGateway,
    FromReleaseServer,
    Hello,
    KeyNotice,
    Redirect,
    Refusal,
    ReleaseAnnouncement,
    ReleaseEntry,
    ReleaseList,
    ReleaseListRequest,
    ReleaseOrder,
    ReleasePacking,
    ReleasePin,
    ReleaseSubscription,
    RobotStatus,
    SignedOrder,
    StatusReply,
    StatusRequest,
    Stop,
    StopConfirmation,
    StopReply,
    StopRequest,
    StopState,
    ToGateway,
    Tombstone,
    ToReleaseServer,
    Welcome,
)
from tests.delivery_site import make_heartbeat
from tests.fuzz.fuzz_target import FuzzTarget
from tests.fuzz.tree_mutation import mutate_msgpack

SPOOL = bytes(range(16))

HELLO = Hello(
    wire_version=2,
    software_version="0.1.0",
    claimed_name="arm",
    spool_id=SPOOL,
    next_sequence=7,
    process_id=bytes(16),
)
TO_GATEWAY = [
    HELLO,
    EpisodeSubmission(spool_id=SPOOL, sequence=1, digest=bytes(32)),
    Tombstone(spool_id=SPOOL, sequence=2, last_sequence=9, reason="the disk was full"),
    msgspec.structs.replace(make_heartbeat(4), warnings=["camera"], next_server_key="k" * 40),
    StatusRequest(),
    StopRequest(order_id=SPOOL, robot_id="arm"),
    StopConfirmation(order_id=SPOOL, resumed=True),
]
_ROBOT = RobotStatus(
    robot_id="arm",
    last_seen_s=-1.0,
    connected=True,
    release_version=3,
    attempts=5,
    successes=2,
    recent="sfFSa",
    stored=5,
    missing=0,
    tombstoned=1,
    duplicates=1,
    conflicts=0,
    refused=0,
    outbox_episodes=0,
    decision_ms_p50=1.5,
    decision_ms_p99=2.5,
    warnings=["the map"],
)
GATEWAY = "tcp://127.0.0.1:1"
FROM_GATEWAY = [
    Welcome(wire_version=2, robot_id="arm", window_bytes=8_000_000, known_through=0),
    Welcome(wire_version=4, robot_id="arm", window_bytes=1, known_through=3, gateways=[GATEWAY]),
    Redirect(endpoint=GATEWAY, gateways=[GATEWAY, "tcp://127.0.0.1:2"]),
    Ack(spool_id=SPOOL, sequences=[1, 2, 3]),
    Refusal(code="digest", reason="differs", spool_id=SPOOL, sequence=4),
    Refusal(code="say-hello", reason=""),
    KeyNotice(next_public_key="k" * 40, signature=bytes(64)),
    Stop(order_id=SPOOL, by="operator"),
    StopReply(robots=[StopState(robot_id="arm", ordered_at_ns=1, by="operator", trouble="away")]),
    StatusReply(
        uptime_s=1.0,
        release_version=3,
        releases_published=3,
        release_latency_ms=[12.5],
        episodes_stored=5,
        robots=[_ROBOT],
    ),
]
TO_RELEASE_SERVER = [
    ReleaseSubscription(have_version=3, wire_version=2),
    ChunkRequest(version=4, offset=0, length=65_536),
    ChunkRequest(version=4, offset=0, length=65_536, packed_from=3),
    ReleaseListRequest(),
    ReleasePin(version=2, robot_id="arm"),
]
ORDER = ReleaseOrder(number=1, robot_id="", version=2, digest=bytes(32))
FROM_RELEASE_SERVER = [
    ReleaseAnnouncement(
        version=4,
        digest=bytes(32),
        size_bytes=1000,
        order=SignedOrder(order=encode_message(ORDER), signature=bytes(64)),
        packing=ReleasePacking(
            size_bytes=100, base_version=3, base_digest=bytes(32), follows_bytes=50
        ),
    ),
    Chunk(version=4, offset=65_536),
    Refusal(code="out-of-range", reason="none there"),
    ReleaseList(
        current=4,
        releases=[
            ReleaseEntry(
                version=4,
                digest="ab" * 32,
                size_bytes=1000,
                created_at_ns=1,
                trained_steps=10,
                metrics={"loss": 0.5},
            )
        ],
        pinned={"": 4},
        withheld=["worse"],
    ),
]


def encoded(messages: list[msgspec.Struct]) -> list[bytes]:
    return [encode_message(message) for message in messages]


def shape_of(value: object) -> str:
    """Say how large a message and everything in it is, roughly."""
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.asdict(value)
        return f"{type(value).__name__}({','.join(map(shape_of, fields.values()))})"
    if isinstance(value, list):
        return f"[{len(value).bit_length()}]"
    if isinstance(value, int):
        return str(value.bit_length() // 8)
    return str(len(value).bit_length() // 2) if isinstance(value, str | bytes) else ""


def _union_target(name: str, union: object, messages: list[msgspec.Struct]) -> FuzzTarget:
    def run(data: bytes) -> str:
        message = decode_message(data, union)
        again = encode_message(message)
        assert encode_message(decode_message(again, union)) == again, "changed on the second way"
        return shape_of(message)

    return FuzzTarget(
        name=name,
        prepare=lambda: run,
        seeds=lambda: encoded(messages),
        mutate=mutate_msgpack,
        max_bytes=70_000,
        memory_mb=384,
    )


MESSAGE_TARGETS = [
    _union_target("to_gateway", ToGateway, TO_GATEWAY),
    _union_target("from_gateway", FromGateway, FROM_GATEWAY),
    _union_target("to_release_server", ToReleaseServer, TO_RELEASE_SERVER),
    _union_target("from_release_server", FromReleaseServer, FROM_RELEASE_SERVER),
]
