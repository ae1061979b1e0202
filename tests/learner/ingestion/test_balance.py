"""When a robot is asked to move to a gateway that has fewer."""

from __future__ import annotations

from learner.ingestion.balance import BETWEEN_S, PATIENCE_S, STAYS_S, Balance
from learner.ingestion.gateway_report import HeardReport
from learner.ingestion.neighbours import Neighbours
from tests.learner.ingestion.test_neighbours import B, C, crowd, report


class Watch:
    """A gateway's balance, whose clock goes on from look to look."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._neighbours = Neighbours(clock=lambda: self.now_s)
        self._balance = Balance(self._neighbours, clock=lambda: self.now_s)

    def hear(self, **robots: int) -> None:
        endpoints = {"b": B, "c": C}
        self._neighbours.hear(
            [
                HeardReport(report=report(endpoints[name], crowd(count)), age_s=0.0)
                for name, count in robots.items()
            ]
        )

    def moves(self, seconds: float, *, own: int, **robots: int) -> list[str | None]:
        """Return where robots were sent while everyone was there so long; each asks once."""
        end_s = self.now_s + seconds
        found = []
        while self.now_s < end_s:
            self.now_s += BETWEEN_S
            self.hear(**robots)
            found.append(self._balance.better_place(f"arm-{self.now_s}", lambda: own))
        return [one for one in found if one is not None]

    def ask(self, robot_id: str, own: int) -> str | None:
        return self._balance.better_place(robot_id, lambda: own)


def test_robots_move_one_by_one_to_the_fewest_once_it_was_so_for_long():
    watch = Watch()
    assert watch.moves(PATIENCE_S, own=9, b=4, c=1) == []
    watch.now_s += BETWEEN_S
    watch.hear(b=4, c=1)
    assert [watch.ask(name, 9) for name in ("x", "y")] == [C, None]


def test_nobody_moves_where_no_gateway_has_less_than_half():
    assert Watch().moves(5 * PATIENCE_S, own=8, b=4) == []


def test_a_single_robot_does_not_wander_to_an_empty_gateway():
    assert Watch().moves(5 * PATIENCE_S, own=1, b=0) == []


def test_nobody_follows_a_gateway_that_comes_and_goes():
    watch = Watch()
    for _ in range(5):
        assert watch.moves(PATIENCE_S - BETWEEN_S, own=9, b=0) == []
        assert watch.moves(BETWEEN_S, own=9) == []


def test_a_robot_that_came_back_stays():
    watch = Watch()
    watch.moves(PATIENCE_S, own=9, b=0)
    sent = []
    for _ in range(3):
        watch.now_s += BETWEEN_S
        watch.hear(b=0)
        sent.append(watch.ask("arm", 9))
    assert sent == [B, None, None]


def test_a_robot_that_came_back_moves_again_after_a_later_outage():
    watch = Watch()
    for _ in range(4):
        watch.moves(PATIENCE_S, own=9, b=0)
        watch.now_s += BETWEEN_S
        watch.hear(b=0)
        assert watch.ask("arm", 9) == B
        watch.moves(STAYS_S, own=5, b=5)
