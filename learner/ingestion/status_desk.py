"""What a gateway tells operators and the fleet's other gateways."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import msgspec

from learner.ingestion.fleet_status import fleet_status, missing_together
from learner.ingestion.gateway_report import GatewayReport, SessionReport
from learner.ingestion.neighbours import Neighbours
from learner.ingestion.sessions import Sessions
from learner.ingestion.stop_orders import StopOrders
from learner.monitoring.drift_watch import DriftWatch
from learner.monitoring.fleet_state import FleetState
from learner.monitoring.yesterday import Yesterday
from learner.store.episode_store import EpisodeStore
from learner.store.holdings import SpoolHoldings
from learner.store.ledger import EMPTY_LEDGER, RobotLedger
from protocol.errors import ConfigurationError, StoreError
from protocol.messages import LearnerCondition, RobotStatus, StatusReply
from protocol.registry import Registry
from protocol.server_socket import ServerSocket

logger = logging.getLogger(__name__)


class StatusDesk:
    """Knows the gateway's own status, and with its neighbours the fleet's. Any thread may ask."""

    def __init__(
        self,
        *,
        registry: Registry,
        store: EpisodeStore,
        fleet: FleetState,
        drift: DriftWatch,
        stops: StopOrders,
        sessions: Sessions,
        socket: ServerSocket,
        neighbours: Neighbours,
        condition: Callable[[], LearnerCondition],
        own_endpoint: Callable[[], str],
    ) -> None:
        """Prepare to be asked.

        Args:
            registry: who belongs to the fleet.
            store: what was delivered.
            fleet: what heartbeats tell.
            drift: which robots left their past.
            stops: which robots shall stand still.
            sessions: every robot's connection to this gateway.
            socket: says how often it had to drop all connections.
            neighbours: what the other gateways said last.
            condition: looks at this gateway and its store; OSError when the disk is away.
            own_endpoint: where robots reach this gateway.
        """
        self._registry = registry
        self._store = store
        self._fleet = fleet
        self._drift = drift
        self._stops = stops
        self._sessions = sessions
        self._socket = socket
        self._neighbours = neighbours
        self._condition = condition
        self._own_endpoint = own_endpoint
        self._yesterday = Yesterday()
        self._started_s = time.monotonic()
        self._reporting = threading.Lock()
        self._last_report: GatewayReport | None = None

    def report(self) -> GatewayReport:
        """Return what this gateway tells the others."""
        now_s = time.monotonic()
        sessions = {
            name: SessionReport(
                process_id=session.process_id,
                address=session.address,
                silent_s=now_s - session.heard_s,
            )
            for name, session in self._sessions.live().items()
        }
        with self._reporting:
            # First the status: what comes meanwhile is then in the holdings, and is not missing.
            status = self._own_status()
            self._last_report = GatewayReport(
                endpoint=self._own_endpoint(),
                store_id=self._store.store_id(),
                status=status,
                sessions=sessions,
                holdings=self._holdings(),
                stops=self._stops.book,
            )
            return self._last_report

    def status(self) -> StatusReply:
        """Return the fleet as all of its gateways know it."""
        others = self._neighbours.reports()
        told = fleet_status(self.report(), others) if others else self._own_status()
        robots = [self._yesterday.added_to(robot) for robot in told.robots]
        return msgspec.structs.replace(told, robots=robots)

    def missing(self) -> dict[str, int]:
        """Return what no store has, of robots that are in several; as of the last exchange."""
        others = [one.report for one in self._neighbours.reports()]
        if not others:
            return {}
        return missing_together([self._last_report or self.report(), *others])

    def note_the_hour(self) -> None:
        """Remember what is missing, once an hour; to be called every few seconds."""
        if not self._yesterday.is_due:
            return
        try:
            self._yesterday.take(self.status().robots)
        except (ConfigurationError, OSError) as error:
            logger.warning("what is missing was not noted, next try in ten seconds: %s", error)

    def _holdings(self) -> dict[str, dict[bytes, SpoolHoldings]]:
        """Return what the store has, or nothing of a damaged one: its status says the damage."""
        try:
            return self._store.holdings()
        except StoreError:
            return {}

    def _own_status(self) -> StatusReply:
        names = {member.name for member in self._registry.members() if member.role == "robot"}
        account = self._store.account()
        names.update(account.robots)
        warnings, conditions = self._of_itself(account.damage)
        return StatusReply(
            uptime_s=time.monotonic() - self._started_s,
            release_version=self._fleet.release_version,
            releases_published=self._fleet.releases_published,
            release_latency_ms=self._fleet.release_latencies_ms(),
            episodes_stored=account.episodes,
            robots=[
                self._own_view(name, account.robots.get(name, EMPTY_LEDGER))
                for name in sorted(names)
            ],
            warnings=warnings,
            conditions=conditions,
        )

    def _own_view(self, robot_id: str, ledger: RobotLedger) -> RobotStatus:
        view = self._drift.added_to(self._fleet.status_of(robot_id, ledger))
        return msgspec.structs.replace(view, stop=self._stops.state(robot_id))

    def _of_itself(self, damage: str) -> tuple[list[str], list[LearnerCondition]]:
        """Return what this gateway has to say of its own, in words and in figures."""
        warnings = self._warnings() + ([damage[:512]] if damage else [])
        if unkept := self._stops.disk_trouble:
            warnings.append(f"orders to stop robots are not kept on disk: {unkept}"[:512])
        try:
            return warnings, [self._condition()]
        except OSError as error:
            # A disk that went away hides nothing else.
            return [*warnings, f"the store's disk cannot be looked at: {error}"], []

    def _warnings(self) -> list[str]:
        if not self._socket.emptied:
            return []
        return [
            f"all connections were dropped {self._socket.emptied} times, for the memory that "
            "unfinished messages took: see the learner's log"
        ]
