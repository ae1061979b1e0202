"""``learner.toml``: one frozen dataclass tree, checked when it is read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from protocol.configuration import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PictureSide,
    PositiveFloat,
    PositiveInt,
    Seed,
)
from protocol.endpoint import is_endpoint, is_listener
from protocol.limits import MAX_GATEWAYS

_MOST_KEPT = 0.9
"""Share of the store's file that episodes may take up."""

FEWEST_HELD_OUT = 20
"""Attempts without which weights are released unjudged."""

Interval = Annotated[float, msgspec.Meta(gt=0, le=604_800)]
"""Seconds between what a learner does again and again; at most a week."""
LearningRate = Annotated[float, msgspec.Meta(gt=0, le=1)]
Processes = Annotated[int, msgspec.Meta(gt=0, le=1024)]
Place = Annotated[str, msgspec.Meta(pattern=r"^([a-z][a-z0-9-]{0,62})?$")]
"""Nodes of a Ray cluster: those that were started with a custom resource of this name. "" is the
node that the learner is started on. A learner with a Ray of its own is in every place at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeysConfig:
    """Key files; every secret one has mode 0600."""

    server_secret: Path
    """The learner's CURVE secret key."""
    release_secret: Path
    """The Ed25519 key that signs releases."""
    registry: Path
    """Folder of enrolled robots' public keys (see fleet enrol)."""


EVERY_ADDRESS = re.compile(r"^tcp://(\*|0\.0\.0\.0|\[::\]):")
"""Of a machine: what a gateway may bind to, and nobody can connect to."""

_METRICS_BIND = re.compile(r"|([^\s:/]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsConfig:
    """What Prometheus reads, and where (see docs/metrics.md)."""

    bind: str = ""
    """``host:port`` for HTTP; "" for nowhere. Whoever can reach it reads all of it, so take
    127.0.0.1 unless Prometheus runs elsewhere."""
    forget_after_s: PositiveFloat = 86_400.0
    """A robot that was not heard for so long is exported no more."""

    def __post_init__(self) -> None:
        """Check what no single field can say."""
        found = _METRICS_BIND.fullmatch(self.bind)
        if found is None or int(found["port"] or 0) > 65_535:
            raise ValueError(f"bind {self.bind!r} is not of the form 'host:port'")


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayConfig:
    """Where robots deliver their episodes."""

    bind: str = "tcp://127.0.0.1:5701"
    advertise: str = ""
    """``tcp://host:port`` under which robots and operators reach it; "" for what it binds to, with
    the address of its node where that is every address."""
    place: Place = ""
    """Where it runs: on the node whose disk holds the store, whatever else is lost."""
    store: Path = Path("episodes")
    """Folder of the episode store, relative to this file."""
    max_store_bytes: Annotated[int, msgspec.Meta(gt=0, le=10**14)] = 200_000_000_000
    """Size of the store's file; when it is reached, robots keep their episodes. It is mapped into
    memory, where a process has room for 100 TB."""
    keep_days: Annotated[float, msgspec.Meta(ge=0, le=36_500)] = 0.0
    """Episodes older than this are retired, oldest first; 0 keeps them for ever. Days while the
    learner runs: no wall clock is asked, so that a wrong one cannot empty the store."""
    keep_bytes: NonNegativeInt = 0
    """Above this size of all episodes the oldest are retired; 0 keeps them until the store is
    full. At most nine tenths of ``max_store_bytes``, for the ledger also takes room."""
    window_bytes: Annotated[int, msgspec.Meta(gt=0, le=2**30)] = 8_000_000
    """Unacked bytes that each robot may have under way; all of them may take so much memory."""
    metrics: MetricsConfig = MetricsConfig()

    def __post_init__(self) -> None:
        """Check what no single field can say."""
        if self.keep_bytes > _MOST_KEPT * self.max_store_bytes:
            raise ValueError(
                f"keep_bytes {self.keep_bytes} exceeds nine tenths of max_store_bytes "
                f"{self.max_store_bytes}"
            )
        if not is_listener(self.bind):
            raise ValueError(f"bind {self.bind!r} is not of the form 'tcp://host:port'")
        if self.advertise and not is_endpoint(self.advertise):
            raise ValueError(f"advertise {self.advertise!r} is not of the form 'tcp://host:port'")

    @property
    def name(self) -> str:
        """Where robots reach it, where that is known before it listens; its place otherwise."""
        endpoint = self.advertise or self.bind
        if is_endpoint(endpoint) and not EVERY_ADDRESS.match(endpoint):
            return endpoint
        return f"in place {self.place}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleasesConfig:
    """Where robots fetch releases, and how often there is a new one."""

    bind: str = "tcp://127.0.0.1:5702"
    place: Place = ""
    """Where it runs: on the node whose disk holds the releases."""
    folder: Path = Path("releases")
    interval_s: Interval = 5.0
    """Shortest time between two releases."""
    keep: Annotated[int, msgspec.Meta(gt=0, le=100_000)] = 20
    """Release files kept on disk, newest first."""

    def __post_init__(self) -> None:
        """Check what the field cannot say."""
        if not is_listener(self.bind):
            raise ValueError(f"bind {self.bind!r} is not of the form 'tcp://host:port'")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """How the Q-function is fitted."""

    place: Place = ""
    """Where training runs, and where the run folder is."""
    batch_size: Annotated[int, msgspec.Meta(gt=0, le=2**20)] = 256
    learning_rate: LearningRate = 2e-3
    final_learning_rate: LearningRate = 2e-4
    decay_examples: PositiveInt = 800_000
    """Examples over which the learning rate falls from the first to the final value."""
    weight_decay: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1e-3
    average_decay: Fraction = 0.998
    """Of the weights' moving average, which is what gets released."""
    max_visits: PositiveFloat = 22.0
    """Mean number of times an example may be used; training waits for data beyond it."""
    first_after_attempts: PositiveInt = 200
    """Train when this many attempts are there."""
    bfloat16: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """"auto" takes a GPU for each worker where the place of training has so many, else the CPU."""
    compile: bool = False
    """Whether steps go through torch.compile, which needs a C++ compiler where training runs and
    takes a minute at every start. On a CPU the default network's step is no faster for it."""
    held_out_fraction: Fraction = 0.05
    """Share of episodes kept out of training to measure calibration on."""
    replay_bytes: PositiveInt = 2_000_000_000
    """Memory for decoded examples, 12.4 KB a picture at 64 px. When it is full, a robot makes room
    by its own oldest attempts, one with less than an equal share by those of whoever has most."""
    replay_attempts: NonNegativeInt = 0
    """At most so many attempts are trained on, and the oldest go of the robots with most; 0: all
    that memory holds."""
    most_repeats: PositiveFloat = 4.0
    """Robots are sampled alike, but no example more than this many times as often as the average
    one of its outcome."""
    history: tuple[Path, ...] = ()
    """Folders of recorded stores that a live run learns from as well."""
    history_share: Fraction = 0.5
    """Part of every batch, and of ``replay_bytes``, that comes from ``history``."""
    checkpoints: str = ""
    """Where checkpoints go: a folder, relative to ``run_folder``, or a URL that fsspec knows
    (s3://, gs://, ...); "" for ``run_folder``'s own."""
    checkpoint_interval_s: Interval = 30.0
    keep_checkpoints: Annotated[int, msgspec.Meta(gt=0, le=100_000)] = 3
    """Checkpoints kept, newest first."""
    threads: Processes = 1
    workers: Processes = 1
    """Processes that train together, under Ray Train if there are more than one."""

    def __post_init__(self) -> None:
        """Check what no single field can say."""
        if self.most_repeats < 1:
            raise ValueError(f"most_repeats {self.most_repeats} is less than 1")
        if self.batch_size % self.workers:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be split among {self.workers} workers"
            )
        own_batch = self.batch_size // self.workers
        if own_batch < 2:
            raise ValueError(
                f"batch_size {self.batch_size} for {self.workers} workers: each needs two "
                "examples, one of each outcome"
            )
        if self.history and not 0 < round(self.history_share * own_batch) < own_batch:
            raise ValueError(
                f"history_share {self.history_share} with a history: give a part of each batch, of "
                f"which a worker has {own_batch} examples"
            )
        self._check_held_out()

    def _check_held_out(self) -> None:
        if self.held_out_fraction == 1:
            raise ValueError("held_out_fraction 1.0 leaves nothing to train on")
        held_out = self.held_out_fraction * self.replay_attempts
        if self.replay_attempts and 0 < held_out < FEWEST_HELD_OUT:
            raise ValueError(
                f"replay_attempts {self.replay_attempts} with held_out_fraction "
                f"{self.held_out_fraction}: {held_out:.1f} attempts are held out, and a release "
                f"is judged on {FEWEST_HELD_OUT} or more; hold out 0 to release without a gate"
            )


Moves = Annotated[int, msgspec.Meta(ge=1, le=100)]


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectionConfig:
    """How robots are told to explore (Levine et al. 2016: random first, then on policy)."""

    random_attempts: NonNegativeInt = 1000
    """Attempts of the whole fleet before the network may choose."""
    random_fraction: Fraction = 0.1
    explore_fraction: Fraction = 0.4
    first_max_moves: Moves = 2
    final_max_moves: Moves = 10
    attempts_to_final_moves: PositiveInt = 4000
    """Attempts of the whole fleet over which the moves grow from first to final."""

    def __post_init__(self) -> None:
        """Check what no single field can say."""
        if self.random_fraction + self.explore_fraction > 1:
            raise ValueError(
                f"random_fraction {self.random_fraction} and explore_fraction "
                f"{self.explore_fraction} are more than all attempts"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class RayConfig:
    """Which Ray the learner runs on."""

    address: str = ""
    """"" starts a Ray of its own. "auto" joins the one on this machine, or starts one where there
    is none: the same file will do for a cluster and for a workstation. Otherwise ``host:port``."""
    nodes_within_s: NonNegativeFloat = 600.0
    """How long to wait for nodes of every place: in a cloud they come minutes after the head."""
    dashboard: bool = False
    """Of a Ray of its own."""
    object_store_bytes: Annotated[int, msgspec.Meta(ge=78_643_200, le=10**13)] = 100_000_000
    """Shared memory of a Ray of its own, which starts with no less than 75 MiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerConfig:
    """The learner."""

    run_folder: Path
    """Checkpoints, metrics and the record of the run."""
    seed: Seed = 0
    network: Literal["patch", "levine2016"] = "patch"
    image_height_px: PictureSide = 64
    image_width_px: PictureSide = 64
    """Size of every robot's pictures."""
    keys: KeysConfig
    gateway: GatewayConfig | tuple[GatewayConfig, ...] = GatewayConfig()
    """``[gateway]``; or several, each ``[[gateway]]`` with a place and a store of its own."""
    releases: ReleasesConfig = ReleasesConfig()
    training: TrainingConfig = TrainingConfig()
    collection: CollectionConfig = CollectionConfig()
    ray: RayConfig = field(default_factory=RayConfig)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __post_init__(self) -> None:
        """Check what no single table can say."""
        if not self.gateways:
            raise ValueError("gateway: at least one is needed")
        if len(self.gateways) > MAX_GATEWAYS:
            raise ValueError(
                f"gateway: {len(self.gateways)} exceed the {MAX_GATEWAYS} of one fleet"
            )
        for name in ("store", "bind"):
            found = [(one.place, getattr(one, name)) for one in self.gateways]
            for place, value in found:
                if found.count((place, value)) > 1:
                    where = f" in place {place!r}" if place else ""
                    raise ValueError(
                        f"two gateways have {name} {str(value)!r}{where}: give each its own"
                    )

    @property
    def gateways(self) -> tuple[GatewayConfig, ...]:
        """Every gateway; the first is the one that new robots are given when they are enrolled."""
        return self.gateway if isinstance(self.gateway, tuple) else (self.gateway,)
