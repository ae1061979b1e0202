"""What several gateways of one fleet tell each other, by way of the learner."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from learner.ingestion.gateway_report import GatewayReport, HeardReport
from learner.ingestion.reconciliation import Holder, Reconciliation

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
REPORT_WITHIN_S = 2.0
"""How long all together are waited for. One that is known to be silent is not: a second of its
absence must not make the others' reports so old that they take each other for gone."""


class Peer(Holder, Protocol):
    """A gateway as the exchange sees it. See Gateway for each."""

    def ask_report(self) -> None:
        """Ask what it knows, unless it is still to answer."""

    def report(self, timeout_s: float) -> GatewayReport | None:
        """Return what it answered; None when it does not in time."""

    def hear(self, others: Sequence[HeardReport]) -> None:
        """Take what the others said last, if it is there."""


class Exchange:
    """Asks every gateway how it is, tells the others, and settles what two of them have stored.

    A gateway that is gone is known by what it said last: its store comes back with its node.
    """

    def __init__(
        self,
        peers: Sequence[Peer],
        names: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            peers: all gateways of the fleet.
            names: what each is called until it was heard for the first time.
            clock: what ages are measured by.
        """
        self._peers = peers
        self._clock = clock
        self._reconciliation = Reconciliation(peers)
        self._heard = [(GatewayReport.unheard(name), clock()) for name in names]
        self._silent: set[int] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway-exchange", daemon=True)

    def start(self) -> None:
        """Exchange reports every second; one gateway alone has nobody to hear of."""
        if len(self._peers) > 1:
            self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def step(self) -> None:
        """Ask everyone, and tell everyone of the others."""
        answering: dict[int, GatewayReport] = {}
        for peer in self._peers:
            peer.ask_report()
        end_s = self._clock() + REPORT_WITHIN_S
        for place, peer in enumerate(self._peers):
            is_silent = place in self._silent
            report = peer.report(0.0 if is_silent else max(0.0, end_s - self._clock()))
            if report is not None:
                answering[place] = report
                self._heard[place] = (report, self._clock())
            self._note_answer(place, is_there=report is not None)
        now_s = self._clock()
        known = [HeardReport(report=one, age_s=now_s - heard_s) for one, heard_s in self._heard]
        # Also those that do not answer: one that was started a moment ago lets no robot in before.
        for place, peer in enumerate(self._peers):
            peer.hear([one for at, one in enumerate(known) if at != place])
        self._reconciliation.step(answering)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step()
            except Exception:
                # Robots deliver without it; the next second may be better.
                logger.exception("the gateways could not be told of each other")
            self._stopping.wait(INTERVAL_S)

    def _note_answer(self, place: int, *, is_there: bool) -> None:
        endpoint = self._heard[place][0].endpoint
        if is_there and place in self._silent:
            self._silent.discard(place)
            logger.info("gateway %s is back", endpoint)
        elif not is_there and place not in self._silent:
            self._silent.add(place)
            logger.warning("gateway %s does not answer; robots go to another one", endpoint)
