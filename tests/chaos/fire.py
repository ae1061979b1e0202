"""Strikes a fleet at random moments, and watches what becomes of every strike."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from tests.chaos.fleet_under_fire import FleetUnderFire
from tests.chaos.learner_processes import ACTORS, is_alive
from tests.chaos.strikes import ENDS_THE_LEARNER, Kind, Strike, Striker

WEIGHTS = {
    Kind.EMULATED: 4,
    Kind.AGENT: 3,
    Kind.GATEWAY: 5,
    Kind.TRAINER: 3,
    Kind.RELEASES: 3,
    Kind.EVERY_EMULATED: 1,
    Kind.DRIVER: 1,
    Kind.CONTROL: 1,
    Kind.RAYLET: 1,
    Kind.PAUSE: 1,
}
"""How often each kind is drawn, relative to the others."""
WHOLE_FOR_S = 10.0
"""How long the learner must have been whole before it is taken away again, or stopped."""
RECOVERY_S = 240.0
"""A strike that is not over by then is a failure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """When the next strike falls."""

    after_s: float
    kind: Kind
    choice: int


class Fire:
    """Everything random comes from the seed; what the machine makes of it does not."""

    def __init__(
        self,
        fleet: FleetUnderFire,
        striker: Striker,
        *,
        seed: int,
        pause_s: float,
        say: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            fleet: what is struck.
            striker: what strikes it.
            seed: of the moments and the kinds.
            pause_s: how long the gateway is stopped by a strike of the kind PAUSE.
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
        self._pause_s = pause_s
        self._say = say
        self._began_s = monotonic()
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
        is_whole = all(self._fleet.part(name) for name in ACTORS)
        if not is_whole:
            self._whole_since_s = None
        elif self._whole_since_s is None:
            self._whole_since_s = monotonic()

    def draw(self, least_s: float, most_s: float) -> Moment:
        """Draw when and what."""
        kinds = list(WEIGHTS)
        return Moment(
            after_s=self._random.uniform(least_s, most_s),
            kind=self._random.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0],
            choice=self._random.randrange(1 << 16),
        )

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
            self._paused_until_s = monotonic() + self._pause_s
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
