"""A learner's and its robots' keys in one folder, and the two processes of the data path.

As a program it is one of those processes:
    python -m tests.delivery_site gateway FOLDER [KEEP_BYTES]
    python -m tests.delivery_site robot FOLDER NAME EPISODES
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from learner.config import GatewayConfig
from learner.ingestion.gateway import Gateway
from protocol.codec import encode_episode
from protocol.messages import Heartbeat, Stop, StopConfirmation
from protocol.registry import Registry, Role
from protocol.security import (
    CurveKeys,
    create_curve_keys,
    create_release_keys,
    load_curve_keys,
    load_curve_public,
    load_release_secret,
)
from robot_agent.config import OutboxConfig
from robot_agent.delivery.gateways import Gateways
from robot_agent.delivery.outbox import Outbox
from robot_agent.delivery.uplink import Uplink
from robot_agent.learner_keys import LearnerKeys
from tests.episodes import make_episode
from tests.free_ports import free_port

ROOT = Path(__file__).parent.parent
STORE_BYTES = 16 * 10**9


def confirm_stop(stop: Stop) -> StopConfirmation:
    """Answer as a robot that holds still."""
    return StopConfirmation(order_id=stop.order_id)


@dataclass(frozen=True)
class DeliverySite:
    """Where everything of one test is."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def registry(self) -> Registry:
        return Registry(self.folder / "registry")

    @property
    def endpoint(self) -> str:
        return (self.folder / "endpoint").read_text()

    def outbox_folder(self, name: str) -> Path:
        return self.folder / "robots" / name

    def keys_of(self, name: str) -> CurveKeys:
        return load_curve_keys(self.folder / "keys" / f"{name}.secret")

    def server_public(self) -> bytes:
        return load_curve_public(self.folder / "keys" / "learner.key")

    def release_secret(self) -> Ed25519PrivateKey:
        path = self.folder / "keys" / "release.secret"
        if not path.exists():
            create_release_keys(path, path.with_suffix(".public"))
        return load_release_secret(path)

    def learner_keys(self, name: str) -> LearnerKeys:
        return LearnerKeys.of_bundle(
            self.folder / "keys" / "learner.key",
            verify_key=self.release_secret().public_key(),
            state_folder=self.outbox_folder(name),
        )

    def enrol(self, name: str, role: Role = "robot") -> CurveKeys:
        keys = self.make_keys(name)
        self.registry.enrol(name, keys.public.decode(), role)
        return keys

    def make_keys(self, name: str) -> CurveKeys:
        keys = self.folder / "keys"
        return create_curve_keys(keys / f"{name}.secret", keys / f"{name}.key")

    def gateway(self, others: Sequence[str] = (), **changes: object) -> Gateway:
        settings = {"bind": self.endpoint, "store": self.store, "max_store_bytes": STORE_BYTES}
        config = GatewayConfig(**(settings | changes))
        secret = self.folder / "keys" / "learner.secret"
        return Gateway(config, secret, self.folder / "registry", others=others)

    @contextmanager
    def running_gateway(self, **changes: object) -> Iterator[Gateway]:
        """A gateway that receives until the block ends."""
        gateway = self.gateway(**changes)
        gateway.start()
        try:
            yield gateway
        finally:
            gateway.stop()

    def outbox(self, name: str, config: OutboxConfig | None = None) -> Outbox:
        return Outbox(self.outbox_folder(name), config or OutboxConfig())

    def uplink(
        self,
        name: str,
        outbox: Outbox,
        *,
        keys: CurveKeys | None = None,
        heartbeat: Callable[[], Heartbeat] | None = None,
        gateways: Sequence[str] = (),
        obey_stop: Callable[[Stop], StopConfirmation | None] = confirm_stop,
    ) -> Uplink:
        return Uplink(
            name=name,
            gateways=Gateways(gateways or [self.endpoint], self.outbox_folder(name)),
            keys=keys or self.keys_of(name),
            learner_keys=self.learner_keys(name),
            outbox=outbox,
            heartbeat=heartbeat or make_heartbeat,
            obey_stop=obey_stop,
        )

    def start(self, *arguments: str, within: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start one of the two programs; ``within`` is a command that runs its command line."""
        kind, *rest = arguments
        program = [sys.executable, "-m", "tests.delivery_site", kind, str(self.folder), *rest]
        command = [*within, *program]
        log = (self.folder / f"{'-'.join(arguments)}.log").open("ab")
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def make_site(folder: Path) -> DeliverySite:
    """Make the learner's keys, an empty registry and a free port."""
    site = DeliverySite(folder)
    (folder / "registry").mkdir()
    (folder / "endpoint").write_text(f"tcp://127.0.0.1:{free_port()}")
    site.make_keys("learner")
    return site


def make_heartbeat(release_version: int = 0, next_server_key: str = "") -> Heartbeat:
    return Heartbeat(
        release_version=release_version,
        policy_digest="",
        mode="random",
        attempts=3,
        successes=1,
        outbox_episodes=0,
        outbox_bytes=0,
        sent_bytes=0,
        reconnects=0,
        decision_ms_p50=1.0,
        decision_ms_p99=2.0,
        next_server_key=next_server_key,
    )


def run_gateway(site: DeliverySite, keep_bytes: int = 0) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    gateway = site.gateway(keep_bytes=keep_bytes)
    gateway.start()
    stop.wait()
    gateway.stop()


def run_robot(site: DeliverySite, name: str, episodes: int) -> None:
    """Go on from where the outbox is until it gave out ``episodes`` sequences, then drain it."""
    outbox = site.outbox(name)
    uplink = site.uplink(name, outbox)
    uplink.start()
    while (written := outbox.counts().written) < episodes:
        outbox.put(encode_episode(make_episode(name, seed=written + 1)))
        uplink.notify()
        time.sleep(0.002)
    # Longer than any fault that a test lets it live through.
    sys.exit(0 if uplink.close(240.0) else 1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    _, kind, folder, *rest = sys.argv
    if kind == "gateway":
        run_gateway(DeliverySite(Path(folder)), *map(int, rest))
    else:
        run_robot(DeliverySite(Path(folder)), rest[0], int(rest[1]))
