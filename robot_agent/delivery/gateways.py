"""The gateways of a fleet as one robot knows them, and which one it is with.

The robot's configuration names one or a few. Every welcome names all of them, and the robot keeps
that on its disk: when it starts again while the one it was given is gone, it knows the others.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from protocol.endpoint import is_endpoint
from protocol.errors import ConfigurationError
from protocol.key_files import PUBLIC_MODE, write_over

logger = logging.getLogger(__name__)

LEAVE_AFTER_S = 5.0
"""A robot that has had no connection for so long goes on to the next gateway. A gateway that is
merely started anew, on a node that lives, is back by then."""
LONGEST_STAY_S = 60.0
"""The wait is doubled after each round in which no gateway let the robot in, up to this."""
LONGEST_ROUND_S = 120.0
"""And up to where a round takes this long, unless LEAVE_AFTER_S at each gateway takes longer: so
long may it take to find the only one of many that is there."""


class _Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``gateways.json``."""

    given: list[str]
    """From the configuration; when that names others, the rest is out of date."""
    gateways: list[str]
    """All that are known, the given ones among them."""
    current: str
    """The one that welcomed the robot last."""


class Gateways:
    """Where to deliver, and where to go when nobody is there. Belongs to one thread.

    One gateway is the case in which the next one is the same.
    """

    def __init__(self, given: Sequence[str], state_folder: Path) -> None:
        """Remember what was known before.

        Args:
            given: endpoints in the robot's configuration, one at least.
            state_folder: where what is learned is kept.
        """
        self._given = list(given)
        self._file = state_folder / "gateways.json"
        known = self._read()
        self._all = known.gateways if known is not None else self._given
        self._kept = known
        self.current = known.current if known is not None else self._given[0]
        """The endpoint to connect to."""
        self.was_sent_on = False
        """The robot came to the current one from another, and is to be taken in here."""
        self._stay_s = LEAVE_AFTER_S
        self._untried: list[str] = []
        self._is_first_round = True

    @property
    def stay_s(self) -> float:
        """How long to try the current one without success."""
        return self._stay_s

    def go_on(self) -> str:
        """Choose the next one, because the current one does not answer; return it."""
        if not self._untried:
            if not self._is_first_round:
                longest_s = min(LONGEST_STAY_S, LONGEST_ROUND_S / len(self._all))
                self._stay_s = max(LEAVE_AFTER_S, min(2 * self._stay_s, longest_s))
            self._is_first_round = False
            self._untried = self._next_round()
        return self._go_to(self._untried.pop(0))

    def redirect(self, endpoint: str, gateways: Sequence[str]) -> str:
        """Go where the current one says; return where that is.

        It holds the learner's key, and so must the one that it names: nobody else gets anything.
        """
        # Whatever comes of it: no gateway shall send the robot on once more.
        self.was_sent_on = True
        if not is_endpoint(endpoint):
            logger.warning("%s redirects to %r, which is no endpoint", self.current, endpoint)
            return self.current
        self._learn(gateways)
        return self._go_to(endpoint)

    def welcomed(self, gateways: Sequence[str]) -> None:
        """Note that the current one takes episodes, and what others it names."""
        self._stay_s = LEAVE_AFTER_S
        self._untried = []
        self._is_first_round = True
        self._learn(gateways)
        self._keep()

    def _next_round(self) -> list[str]:
        """Return all, first those that a person wrote down, the current one last."""
        others = [one for one in self._all if one != self.current]
        # Otherwise in an order of its own: the robots of a gateway that is gone shall spread.
        random.shuffle(others)
        others.sort(key=lambda one: one not in self._given)
        return [*others, self.current]

    def _go_to(self, endpoint: str) -> str:
        self.was_sent_on = self.was_sent_on or endpoint != self.current
        self.current = endpoint
        return endpoint

    def _learn(self, gateways: Sequence[str]) -> None:
        found = [endpoint for endpoint in gateways if is_endpoint(endpoint)]
        if found:
            self._all = list(dict.fromkeys([*found, *self._given]))

    def _keep(self) -> None:
        known = _Known(given=self._given, gateways=self._all, current=self.current)
        if known == self._kept:
            return
        try:
            write_over(self._file, msgspec.json.encode(known) + b"\n", mode=PUBLIC_MODE)
        except ConfigurationError as error:
            logger.error("the gateways cannot be kept: %s", error)  # noqa: TRY400
        self._kept = known

    def _read(self) -> _Known | None:
        try:
            known = msgspec.json.decode(self._file.read_bytes(), type=_Known)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("%s: ignored, the configured gateway is used: %s", self._file, error)
            return None
        if known.given != self._given:
            logger.info("the configuration names other gateways than before; it counts")
            return None
        if not all(is_endpoint(one) for one in [*known.gateways, known.current]):
            return None
        return known
