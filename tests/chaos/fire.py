"""Strikes a fleet at random moments, and watches what becomes of every strike."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from time import monotonic

from tests.chaos.fleet_under_fire import FleetUnderFire
from tests.chaos.learner_processes import is_alive
from tests.chaos.strikes import ENDS_THE_LEARNER, Kind, Strike, Striker

DECK = {
    Kind.EMULATED: 8,
    Kind.AGENT: 6,
    Kind.GATEWAY: 10,
    Kind.TRAINER: 5,
    Kind.RELEASES: 6,
    Kind.EVERY_EMULATED: 2,
    Kind.DRIVER: 2,
    Kind.CONTROL: 1,
    Kind.RAYLET: 1,
    Kind.PAUSE: 1,
}
"""How often each kind is in the deck that strikes are drawn from."""
LEAST_PAUSE_S, MOST_PAUSE_S = 2.0, 6.0
"""Between two strikes."""
WHOLE_FOR_S = 10.0
"""How long the learner must have been whole before it is taken away again, or stopped."""
RECOVERY_S = 240.0
"""A strike that is not over by then is a failure."""


class Fire:
    """Everything random comes from the seed; what can be struck when does not."""

    def __init__(
        self,
        fleet: FleetUnderFire,
        striker: Striker,
        *,
        seed: int,
        stop_s: float,
        say: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            fleet: what is struck.
            striker: what strikes it.
            seed: of the moments and the kinds.
            stop_s: how long the gateway is stopped by a strike of the kind PAUSE.
            say: takes a line for every strike and every recovery.
        """
        self.strikes: list[Strike] = []
        self.actors_s: dict[int, float] = {}
        """For every learner that was struck down, by its number: from there until its last actor
        had ended, which may hold a port or the store."""
        self.processes_s: dict[int, float] = {}
        """The same until its very last process had ended; Ray's own agents take a minute."""
        self._fleet = fleet
        self._striker = striker
        self._random = random.Random(seed)
        self._deck: list[Kind] = []
        self._stop_s = stop_s
        self._say = say
        self._whole_since_s: float | None = None
        self._orphaned: dict[int, float] = {}
        self._paused_until_s = 0.0

    def look(self) -> None:
        """See what has recovered, what has ended, and whether a pause is over."""
        paused = self._paused
        if paused is not None and monotonic() >= self._paused_until_s:
            self._striker.resume(paused)
            self._paused_until_s = 0.0
        for strike in self.strikes:
            was_pending = strike.is_pending
            strike.look()
            if was_pending and not strike.is_pending:
                self._say(f"{strike.kind}: back after {strike.recovered_after_s:.1f} s")
        self._look_for_orphans()
        if not self._fleet.is_whole():
            self._whole_since_s = None
        elif self._whole_since_s is None:
            self._whole_since_s = monotonic()

    def pause_s(self) -> float:
        """Draw how long to wait for the next strike, seconds."""
        return self._random.uniform(LEAST_PAUSE_S, MOST_PAUSE_S)

    def strike_next(self) -> None:
        """Strike with the first kind of the deck that can be struck now, and take it out."""
        if not self._deck:
            self._deck = [kind for kind, count in DECK.items() for _ in range(count)]
            self._random.shuffle(self._deck)
        for position, kind in enumerate(self._deck):
            if self.strike(kind, self._random.randrange(1 << 16)):
                del self._deck[position]
                return

    def strike(self, kind: Kind, choice: int = 0) -> bool:
        """Strike; return False when this kind cannot be struck now."""
        if self._paused is not None or not self._may(kind):
            return False
        strike = self._striker.strike(kind, choice)
        if strike is None:
            return False
        self._note_overtaken(strike)
        self.strikes.append(strike)
        self._say(f"{kind}: struck {', '.join(map(str, strike.victims))}")
        if kind is Kind.PAUSE:
            self._paused_until_s = monotonic() + self._stop_s
        if kind in ENDS_THE_LEARNER:
            self._orphaned[len(self._fleet.generations) - 1] = strike.began_s
        return True

    def _note_overtaken(self, strike: Strike) -> None:
        for earlier in self.pending:
            if earlier.kind in ENDS_THE_LEARNER:
                # Struck while the learner was down already: its time would be the learner's.
                strike.overtaken_by = earlier.kind
            elif earlier.is_overtaken_by(strike):
                earlier.overtaken_by = strike.kind

    @property
    def pending(self) -> Sequence[Strike]:
        return [strike for strike in self.strikes if strike.is_pending]

    @property
    def _paused(self) -> Strike | None:
        if not self._paused_until_s:
            return None
        return self.strikes[-1]

    def _may(self, kind: Kind) -> bool:
        if kind not in ENDS_THE_LEARNER and kind is not Kind.PAUSE:
            return True
        whole_since_s = self._whole_since_s
        return whole_since_s is not None and monotonic() - whole_since_s >= WHOLE_FOR_S

    def _look_for_orphans(self) -> None:
        """Time how long the processes of a learner that was struck down go on."""
        for index, began_s in list(self._orphaned.items()):
            generation = self._fleet.generations[index]
            has_ended = not is_alive(generation.driver)
            if has_ended and index not in self.actors_s and not generation.actors():
                self.actors_s[index] = monotonic() - began_s
                self._say(f"learner {generation.driver.pid}: its last actor has ended")
            if has_ended and not generation.alive():
                self.processes_s[index] = monotonic() - began_s
                del self._orphaned[index]
                self._say(f"learner {generation.driver.pid}: its last process has ended")

    @property
    def orphaned(self) -> int:
        """Learners that were struck down and of which an actor may still run."""
        return len(self._orphaned.keys() - self.actors_s.keys())
