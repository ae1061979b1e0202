"""A robot without a body: the agent's own outbox, uplink and release receiver, and no more."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from protocol.hand_eye import pinhole_map
from protocol.messages import Heartbeat
from protocol.security import load_curve_keys, load_release_public
from robot_agent.config import OutboxConfig
from robot_agent.delivery.gateways import Gateways
from robot_agent.delivery.outbox import Outbox, SpooledEpisode
from robot_agent.delivery.uplink import Uplink, UplinkStats
from robot_agent.learner_keys import LearnerKeys
from robot_agent.releases.receiver import ReleaseReceiver
from tests.delivery_site import confirm_stop

MAP = pinhole_map(position_m=(-0.3, 0.0, 0.4), look_at_m=(0.0, 0.0, 0.0), vertical_fov_deg=40.0)


class TimedOutbox(Outbox):
    """The outbox as it is, with a clock beside it: how long from spooling to the ack.

    What it has can be held back, so that many episodes go at once.
    """

    def __init__(self, folder: Path, config: OutboxConfig) -> None:
        super().__init__(folder, config)
        self._spooled_s: dict[int, float] = {}
        self._latencies_s: list[float] = []
        self._highest_acked = self._held_after = 0
        self.is_held_back = False

    def put(self, record: bytes, *, beyond_limit: bool = False) -> int:
        sequence = super().put(record, beyond_limit=beyond_limit)
        self._spooled_s[sequence] = monotonic()
        return sequence

    def unsent(self, after: int, limit_bytes: int) -> list[SpooledEpisode]:
        found = super().unsent(after, limit_bytes)
        # Asked last: what was put since it is held back is never in what goes.
        return [] if self.is_held_back else found

    def hold_back(self) -> None:
        """Hold back what is there and what comes, and count acks anew of what comes."""
        self.is_held_back = True
        self._held_after = self.counts().written

    @property
    def is_reached(self) -> bool:
        """True when something was acked that was put since it was last held back."""
        return self._highest_acked > self._held_after

    def forget(self, sequences: Iterable[int]) -> None:
        gone = list(sequences)
        super().forget(gone)
        self._highest_acked = max((self._highest_acked, *gone))
        now_s = monotonic()
        for sequence in gone:
            # What an earlier process spooled has no time on this one's clock.
            if sequence in self._spooled_s:
                self._latencies_s.append(now_s - self._spooled_s.pop(sequence))

    def take_latencies_s(self) -> list[float]:
        """Return the times of what was acked since the last call."""
        taken, self._latencies_s = self._latencies_s, []
        return taken


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A robot's folder as ``fleet enrol`` made it."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def learner(self) -> dict[str, Any]:
        """Return the table ``learner`` of the bundle's part of a robot.toml."""
        part = tomllib.loads((self.folder / "robot-part.toml").read_text())
        learner: dict[str, Any] = part["learner"]
        return learner

    @property
    def state(self) -> Path:
        return self.folder / "state"


class EmulatedRobot:
    """Delivers what it is given. Belongs to one thread, and has its own for the network."""

    def __init__(self, bundle: Bundle, outbox: OutboxConfig, *, fetches_releases: bool) -> None:
        """Open the outbox and prepare the connections.

        Args:
            bundle: the robot's keys and the learner's address; its state is kept there too.
            outbox: its limits.
            fetches_releases: fetch, verify and load every release as an agent does. This costs a
                connection, a thread and two ONNX sessions more.
        """
        self.name = bundle.name
        learner, folder = bundle.learner(), bundle.folder
        keys = load_curve_keys(folder / "robot.secret")
        verify_key = load_release_public(folder / learner["release_key"])
        learner_keys = LearnerKeys.of_bundle(
            folder / learner["public_key"], verify_key=verify_key, state_folder=bundle.state
        )
        self.outbox = TimedOutbox(bundle.state, outbox)
        self._uplink = Uplink(
            name=self.name,
            gateways=Gateways([learner["episodes"]], bundle.state),
            keys=keys,
            learner_keys=learner_keys,
            outbox=self.outbox,
            heartbeat=self._heartbeat,
            obey_stop=confirm_stop,
        )
        self._receiver: ReleaseReceiver | None = None
        if fetches_releases:
            self._receiver = ReleaseReceiver(
                endpoint=learner["releases"],
                keys=keys,
                learner_keys=learner_keys,
                verify_key=verify_key,
                state_folder=bundle.state,
                robot_id=self.name,
                calibration=MAP,
                height_px=64,
                width_px=64,
            )

    def start(self) -> None:
        self._uplink.start()
        if self._receiver is not None:
            self._receiver.start()

    def spool(self, record: bytes) -> int:
        """Keep a record and have it delivered; return its sequence.

        Raises:
            OutboxFullError: see Outbox.put.
        """
        sequence = self.outbox.put(record)
        self._uplink.notify()
        return sequence

    def notify(self) -> None:
        """Have what is spooled looked at."""
        self._uplink.notify()

    @property
    def stats(self) -> UplinkStats:
        return self._uplink.stats

    @property
    def trouble(self) -> str:
        """Why nothing is delivered, in words; "" when all is well."""
        return self._uplink.trouble

    @property
    def release_version(self) -> int:
        return self._receiver.version if self._receiver else 0

    def close(self, deadline_s: float) -> bool:
        """Deliver for at most so long, then close; return True when nothing is left."""
        if self._receiver is not None:
            self._receiver.close()
        is_drained = self._uplink.close(deadline_s)
        self.outbox.close()
        return is_drained

    def _heartbeat(self) -> Heartbeat:
        counts, stats = self.outbox.counts(), self._uplink.stats
        return Heartbeat(
            release_version=self.release_version,
            policy_digest="",
            mode="random",
            attempts=counts.written,
            successes=0,
            outbox_episodes=counts.waiting,
            outbox_bytes=counts.waiting_bytes,
            sent_bytes=stats.sent_bytes,
            reconnects=stats.reconnects,
            decision_ms_p50=0.0,
            decision_ms_p99=0.0,
        )
