"""Every message on the wire: MessagePack header, and for some kinds one body frame behind it.

A header is a MessagePack map whose ``type`` names the message; unknown keys are refused. Robots
connect with DEALER sockets, the learner answers from ROUTER sockets, under CURVE. Who speaks is
known from the authenticated key alone, never from a field.

Fields with a default may be left out, and are when they have it. What a wire version added has a
default and is sent only to peers of that version or newer, so that one version older is served.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from protocol.limits import MAX_GATEWAYS

WIRE_VERSION = 5
OLDEST_WIRE_VERSION = 1
"""The oldest version that is still served."""

SpoolId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Sha256 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
CurvePublic = Annotated[str, msgspec.Meta(min_length=40, max_length=40)]
"""A CURVE public key in Z85."""
OrderId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
"""Drawn at random by the operator's command."""
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
"""Ed25519, by the key that signs releases."""
WireVersion = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Sequence = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Text = Annotated[str, msgspec.Meta(max_length=512)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+\Z")]
Endpoint = Annotated[str, msgspec.Meta(max_length=256)]
"""``tcp://host:port``."""
Endpoints = Annotated[list[Endpoint], msgspec.Meta(max_length=MAX_GATEWAYS)]
"""Of gateways that serve one fleet, all with the same key."""


class _Message(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """Base of all messages."""


class Hello(_Message, frozen=True, kw_only=True, tag="hello"):
    """Robot to gateway, once per connection, before anything else."""

    wire_version: WireVersion
    software_version: Text
    claimed_name: Name
    """Compared with the name that the key is enrolled under; a difference is refused."""
    spool_id: SpoolId
    next_sequence: Sequence
    """The sequence that the outbox will give to its next episode."""
    process_id: Annotated[bytes, msgspec.Meta(max_length=16)] = b""
    """Drawn at random when the agent's process starts; tells two agents with one key apart.
    Since version 2."""
    sent_on: bool = False
    """The robot was redirected here, or has left a gateway that did not answer: it is not to be
    redirected again. Since version 4."""


class Welcome(_Message, frozen=True, kw_only=True, tag="welcome"):
    """Gateway to robot: accepted."""

    wire_version: WireVersion
    """The lower of the two sides' versions: what both shall speak on this connection."""
    robot_id: Name
    window_bytes: Count
    """The robot may have at most this many bytes of episodes sent and not yet acked."""
    known_through: Count
    """Every sequence of this spool up to here is stored or tombstoned."""
    gateways: Endpoints = []
    """All gateways of the fleet, this one among them: where to go when this one is gone. Empty when
    there is no other. Since version 4."""


class Redirect(_Message, frozen=True, kw_only=True, tag="redirect"):
    """Gateway to robot, instead of a welcome: another gateway shall serve it. Since version 4."""

    endpoint: Endpoint
    """Which one."""
    gateways: Endpoints
    """All gateways of the fleet, as in a welcome."""


class EpisodeSubmission(_Message, frozen=True, kw_only=True, tag="episode"):
    """Robot to gateway; the body frame is one episode record (see protocol.codec)."""

    spool_id: SpoolId
    sequence: Sequence
    digest: Sha256
    """sha256 of the body frame."""


class Tombstone(_Message, frozen=True, kw_only=True, tag="tombstone"):
    """Robot to gateway: these sequences will never come. Acked like an episode."""

    spool_id: SpoolId
    sequence: Sequence
    last_sequence: Sequence
    reason: Text


class Ack(_Message, frozen=True, kw_only=True, tag="ack"):
    """Gateway to robot, after the commit is on disk: forget these."""

    spool_id: SpoolId
    sequences: Annotated[list[Sequence], msgspec.Meta(max_length=4096)]


class Refusal(_Message, frozen=True, kw_only=True, tag="refusal"):
    """Learner to robot: what was refused, and why, in words for an operator."""

    code: Name
    reason: Text
    spool_id: SpoolId | None = None
    sequence: Sequence | None = None
    """With a sequence: this record will never be accepted; keep it aside, do not resend."""


class KeyNotice(_Message, frozen=True, kw_only=True, tag="key_notice"):
    """Gateway to robot: the learner will change its key to this one. Since version 2.

    The robot keeps it and tries it when the learner no longer answers to the key it knows.
    """

    next_public_key: CurvePublic
    signature: Signature
    """Over ``b"graspfleet next server key\\0"`` and the key's 40 characters."""


class Stop(_Message, frozen=True, kw_only=True, tag="stop"):
    """Gateway to robot: an operator has stopped it. Since version 5.

    The robot holds still at once and stays stopped until a person who stands beside it resumes it.
    Comes again with every heartbeat until the robot has answered that a person has.
    """

    order_id: OrderId
    by: Name
    """Which operator."""


class StopConfirmation(_Message, frozen=True, kw_only=True, tag="stop_confirmation"):
    """Robot to gateway, for every stop that comes. Since version 5."""

    order_id: OrderId
    resumed: bool = False
    """False: the robot holds still. True: it did, and a person has resumed it since."""


class RobotHealth(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What an agent measures of its robot and of itself, for operators. Since version 4."""

    outbox_limit_bytes: Count = 0
    """What the outbox may hold."""
    outbox_oldest_s: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    """How long the oldest waiting episode has waited; since the agent's start if it is older."""
    release_created_at_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    """When the release in use was made, UTC by the learner's clock; 0 for none."""
    servo_hz: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    """Servoing steps per second in recent attempts; 0 before the first."""
    camera_ok: bool = True
    """False when the camera failed the last time that it was used."""
    servos_ok: bool = True
    """False when arm or gripper failed the last time that they were used."""
    camera_faults: Count = 0
    """Attempts that the camera ended, since the agent started."""
    servo_faults: Count = 0
    """Attempts that arm or gripper ended, since the agent started."""
    safety_stops: Count = 0
    """Safety faults since the agent started. It ends after one, with this as its last word."""
    camera_shift_px: Annotated[float, msgspec.Meta(ge=0, le=1e5)] | None = None
    """How far the bin has moved in the picture since the hand-eye map was found."""
    gripper_zero_drift_m: Annotated[float, msgspec.Meta(ge=-1, le=1)] | None = None
    """What the closed gripper reads, less what it read when the robot was first started."""
    temperature_c: Annotated[float, msgspec.Meta(ge=-273, le=1000)] | None = None
    """Of the hottest part; None where the hardware does not tell."""
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """Where the agent's own metrics are read, on the address that it connects from; 0 for none."""


STARTING = "starting"
"""The mode of an agent that is still opening its robot, or looking for its hand-eye map."""


class Heartbeat(_Message, frozen=True, kw_only=True, tag="heartbeat"):
    """Robot to gateway, every second or two and at once when a new release is in use."""

    release_version: Count
    policy_digest: Text
    mode: Text
    attempts: Count
    successes: Count
    outbox_episodes: Count
    outbox_bytes: Count
    sent_bytes: Count
    reconnects: Count
    decision_ms_p50: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
    decision_ms_p99: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
    warnings: Annotated[list[Text], msgspec.Meta(max_length=16)] = []
    """What a person should know now, in words: a hand-eye map that cannot be right, and so on."""
    next_server_key: Annotated[str, msgspec.Meta(max_length=40)] = ""
    """The learner's next public key, once the robot has stored one. Since version 2."""
    health: RobotHealth | None = None
    """Since version 4."""


class StatusRequest(_Message, frozen=True, kw_only=True, tag="status_request"):
    """Operator to gateway."""


class StopRequest(_Message, frozen=True, kw_only=True, tag="stop_request"):
    """Operator to gateway: stop robots; answered with a StopReply or a Refusal. Since version 5.

    The gateway keeps the order until each robot has obeyed and was resumed, whenever it is reached.
    The same order may be sent again, to ask who has obeyed, and to several gateways.
    """

    order_id: OrderId
    robot_id: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """One robot; "" for the whole fleet."""


class StopState(msgspec.Struct, frozen=True, kw_only=True):
    """How far an order to stop has come with one robot."""

    robot_id: str
    ordered_at_ns: int
    """UTC, by the learner's clock."""
    by: str
    """Which operator."""
    confirmed_at_ns: int = 0
    """When the robot said that it holds still; 0 while it has not."""
    trouble: str = ""
    """Why it has not, in words, as far as the learner knows."""


class StopReply(_Message, frozen=True, kw_only=True, tag="stop_reply"):
    """Gateway to operator: one state for each robot that shall stop. Since version 5."""

    robots: list[StopState]


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a robot has left its past: see docs/drift.md."""

    detected: bool
    evidence: float
    """As a share of what raises the alarm; between 0 and 10."""
    attempts: int
    """That the past is known from."""
    before: float
    """Share of successes that the past lets expect now."""
    now: float
    """Share of successes since it drifted, if it has."""
    since: int
    """Attempts since then."""


class RobotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One robot as the learner knows it."""

    robot_id: str
    last_seen_s: float
    """Seconds since any message; infinity is written as -1."""
    connected: bool
    release_version: int
    attempts: int
    successes: int
    recent: str
    """The last 200 attempts, oldest first: 's' success, 'f' failure, 'a' aborted, upper case
    when the attempt was greedy."""
    stored: int
    missing: int
    tombstoned: int
    duplicates: int
    conflicts: int
    refused: int
    outbox_episodes: int
    decision_ms_p50: float
    decision_ms_p99: float
    warnings: list[str]
    policy_digest: str = ""
    """Hash over graphs, preprocessing, search settings and hand-eye map of the release in use."""
    wire_version: int = 0
    """What both sides speak on the robot's connection; 0 before its first hello."""
    software_version: str = ""
    address: str = ""
    """Where the robot connected from last."""
    gateway: str = ""
    """Which gateway heard it last, where there are several. Since version 4."""
    success_drift: Drift | None = None
    """None while it has no past. Since version 4."""
    calibration_drift: Drift | None = None
    """The same, of attempts for which success in 0.8 of cases was predicted. Since version 4."""
    health: RobotHealth | None = None
    """As its last heartbeat had it. Since version 4."""
    outbox_bytes: int = 0
    """As its last heartbeat had it. Since version 4."""
    missing_yesterday: int = 0
    """Of ``missing``: what was missing a day ago already; 0 where the gateway began since.
    Since version 4."""
    conflicts_yesterday: int = 0
    """The same of ``conflicts``. Since version 4."""
    stop: StopState | None = None
    """None unless an operator has stopped it and no person has resumed it. Since version 5."""


class LearnerCondition(msgspec.Struct, frozen=True, kw_only=True):
    """How one gateway and its store are, and what that gateway hears of training."""

    gateway: str = ""
    """Its endpoint, where there are several."""
    store_bytes: int
    store_limit_bytes: int
    disk_free_bytes: int
    disk_size_bytes: int
    """Of the disk that the store lies on."""
    queued_bytes: int
    """The least that waited for the disk at any time of the last five minutes."""
    queue_limit_bytes: int
    keys_refused: int
    """Handshakes and messages under keys that are not accepted in the last ten minutes, of the
    most frequent reason."""
    trainer_silent_s: float | None = None
    """Seconds since the trainer said anything here; None for never since the gateway began."""
    training_stalled_s: float | None = None
    """Seconds since the trainer last made a step or had nothing to learn from; None as above."""
    training_steps: int = 0
    """As the trainer said last."""


class StatusReply(_Message, frozen=True, kw_only=True, tag="status_reply"):
    """Gateway to operator: the fleet as the learner knows it."""

    uptime_s: float
    release_version: int
    releases_published: int
    release_latency_ms: list[float]
    """Per release: published until in use on the last live robot (or superseded there)."""
    episodes_stored: int
    robots: list[RobotStatus]
    warnings: list[str] = []
    """What concerns the learner itself, in words."""
    conditions: list[LearnerCondition] = []
    """One for each gateway that is there. Since version 4."""


class ReleaseSubscription(_Message, frozen=True, kw_only=True, tag="release_subscription"):
    """Robot to release server, once per connection and again as a keep-alive every few seconds."""

    have_version: Count
    wire_version: WireVersion = 1


class ReleaseOrder(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, array_like=True
):
    """An operator's word that robots shall use this release, although they know a newer one.

    Once an operator has pinned anything, every announcement carries an order, for the newest
    release too: robots learn its number, and no earlier order can be replayed to them.
    """

    number: Sequence
    """Counts up with every change that the operator makes. Only an order above the highest number
    that a robot has obeyed makes it use an older release."""
    robot_id: Annotated[str, msgspec.Meta(max_length=64)]
    """Whom it binds; "" for the whole fleet."""
    version: Sequence
    digest: Sha256
    """Of the release."""


class SignedOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ReleaseOrder as it travels."""

    order: Annotated[bytes, msgspec.Meta(max_length=512)]
    """MessagePack of the ReleaseOrder."""
    signature: Signature
    """Over ``b"graspfleet release order\\0"`` and ``order``."""


class ReleasePacking(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Fewer bytes than the release's file, which give the same file (protocol.release_packing)."""

    size_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    base_version: Count = 0
    """The release that it is packed against; 0 for none."""
    base_digest: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    """Of that release; empty without one."""
    follows_bytes: Count = 0
    """So many of its first bytes come in a chunk that need not be asked for."""


class ReleaseAnnouncement(_Message, frozen=True, kw_only=True, tag="release_announcement"):
    """Release server to robot: use this release; fetch it when it suits you."""

    version: Sequence
    digest: Sha256
    size_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    order: SignedOrder | None = None
    """With an order the release may be older than the one in use. Since version 2."""
    packing: ReleasePacking | None = None
    """What may be fetched instead of the file. Since version 3."""


class ChunkRequest(_Message, frozen=True, kw_only=True, tag="chunk_request"):
    """Robot to release server: send ``length`` bytes of a release from ``offset``."""

    version: Sequence
    offset: Count
    length: Annotated[int, msgspec.Meta(ge=1, le=4 * 2**20)]
    packed_from: Count | None = None
    """None for bytes of the file; otherwise of the packing against this release, 0 for none.
    Since version 3."""


class Chunk(_Message, frozen=True, kw_only=True, tag="chunk"):
    """Release server to robot; the body frame holds the bytes."""

    version: Sequence
    offset: Count
    packed_from: Count | None = None
    """As in the request. Since version 3."""


class ReleaseListRequest(_Message, frozen=True, kw_only=True, tag="release_list_request"):
    """Operator to release server."""


class ReleasePin(_Message, frozen=True, kw_only=True, tag="release_pin"):
    """Operator to release server; answered with a ReleaseList or a Refusal."""

    version: Count
    """What to use from now on; 0 for the newest again."""
    robot_id: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """One robot; "" for the whole fleet."""


class ReleaseEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One release as the server knows it."""

    version: int
    digest: str
    """sha256, hexadecimal."""
    size_bytes: int
    created_at_ns: int
    """UTC."""
    trained_steps: int
    metrics: dict[str, float]


class ReleaseList(_Message, frozen=True, kw_only=True, tag="release_list"):
    """Release server to operator."""

    current: Count
    """The newest release; 0 before the first."""
    releases: list[ReleaseEntry]
    """What is on disk, newest first."""
    pinned: dict[str, int]
    """Robot -> version; "" is the whole fleet."""
    withheld: list[str]
    """Why the last weights that were not released were held back, in words, newest first."""
    warnings: list[str] = []
    """What keeps a robot from using what it is pinned to, in words."""


ToGateway = (
    Hello
    | EpisodeSubmission
    | Tombstone
    | Heartbeat
    | StopConfirmation
    | StatusRequest
    | StopRequest
)
FromGateway = Welcome | Redirect | Ack | Refusal | KeyNotice | Stop | StatusReply | StopReply
ToReleaseServer = ReleaseSubscription | ChunkRequest | ReleaseListRequest | ReleasePin
FromReleaseServer = ReleaseAnnouncement | Chunk | Refusal | ReleaseList

# msgspec looks at a type when it is first used. A process with many agents' threads was twice seen
# to end there by a segmentation fault (0.22), which nobody could repeat: so no two threads meet.
for _union in (ToGateway, FromGateway, ToReleaseServer, FromReleaseServer):
    msgspec.msgpack.Decoder(_union)
