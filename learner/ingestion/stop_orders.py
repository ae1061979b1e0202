"""Which robots an operator has stopped: a small file beside the store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from protocol.errors import ConfigurationError
from protocol.key_files import PUBLIC_MODE, write_over
from protocol.messages import OrderId, StopState

logger = logging.getLogger(__name__)

STOPS_FILE = "stops.json"
KEPT_SETTLED = 8
"""So many of each robot's settled orders are remembered: a gateway that comes back with one of
them open must be told. One that is older than those is settled again by the robot's own word."""


class StopOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One order to one robot. What is known of it only ever grows."""

    order_id: OrderId
    by: str
    ordered_at_ns: int
    confirmed_at_ns: int = 0
    """0 until the robot holds still."""
    is_settled: bool = False
    """A person has resumed the robot since, or a newer order has taken the place of this one."""

    def together(self, other: StopOrder) -> StopOrder:
        """Return what two gateways know of the same order."""
        return msgspec.structs.replace(
            self,
            confirmed_at_ns=self.confirmed_at_ns or other.confirmed_at_ns,
            is_settled=self.is_settled or other.is_settled,
        )

    def settled(self) -> StopOrder:
        """Return the same, of which the robot need not hear any more."""
        return msgspec.structs.replace(self, is_settled=True)


StopBook = Mapping[str, tuple[StopOrder, ...]]
"""The orders to each robot, the oldest first."""


class StopOrders:
    """What one gateway knows of the fleet's orders. Any thread may call any method."""

    def __init__(self, file: Path) -> None:
        """Read the file, if there is one.

        Raises:
            ConfigurationError: it cannot be read or is damaged. To go on without it would let a
                robot start that an operator has stopped.
        """
        self._file = file
        self._changing = threading.Lock()
        self._writing = threading.Lock()
        self.disk_trouble = ""
        """Why the disk does not have all that is known; empty while it has."""
        self._book: StopBook
        try:
            self._book = msgspec.json.decode(
                file.read_bytes(), type=dict[str, tuple[StopOrder, ...]]
            )
        except FileNotFoundError:
            self._book = {}
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigurationError(
                f"orders to stop robots {file}: {error}; mend the file, or remove it and stop "
                "again whoever shall be stopped"
            ) from error
        self._kept = self._book
        """What the disk has."""

    @property
    def book(self) -> StopBook:
        """All that is known, for the other gateways."""
        return self._book

    def of(self, robot_id: str) -> StopOrder | None:
        """Return what a robot shall obey next; None when it may go on."""
        waiting = [one for one in self._book.get(robot_id, ()) if not one.is_settled]
        return min(waiting, key=lambda one: one.confirmed_at_ns, default=None)

    def state(self, robot_id: str) -> StopState | None:
        """Return the same, for people."""
        order = self.of(robot_id)
        return _state(robot_id, order) if order is not None else None

    def state_of(self, robot_id: str, order_id: bytes) -> StopState:
        """Return how far one order has come, which was added; also one that is settled."""
        orders = self._book[robot_id]
        return _state(robot_id, next(one for one in orders if one.order_id == order_id))

    def add(self, robot_ids: Iterable[str], order_id: bytes, by: str) -> None:
        """Stop robots; an order that is known already changes nothing.

        It takes the place of earlier ones, also where other gateways know of them; a robot that
        has confirmed one of those, and was not resumed since, has confirmed this one too.

        The disk has it only after ``keep``: robots are told first, however slow the disk is.
        """
        order = StopOrder(order_id=order_id, by=by, ordered_at_ns=time.time_ns())
        fresh: dict[str, tuple[StopOrder, ...]] = {}
        with self._changing:
            for name in robot_ids:
                known = self._book.get(name, ())
                if all(one.order_id != order_id for one in known):
                    # Who holds still by an order that nobody has resumed need not say so again.
                    held_at_ns = max(
                        (one.confirmed_at_ns for one in known if not one.is_settled), default=0
                    )
                    now = msgspec.structs.replace(order, confirmed_at_ns=held_at_ns)
                    fresh[name] = (*(one.settled() for one in known), now)
            self._change(fresh)
        if fresh:
            logger.warning("stopped by %s: %s", by, ", ".join(sorted(fresh)))

    def hear(self, others: Iterable[StopBook]) -> None:
        """Take what other gateways know, also what one said before it went away.

        An order of theirs counts as if it had been given here, unless one of them knows that it is
        settled. To hear the same again changes nothing.
        """
        heard: dict[str, list[StopOrder]] = {}
        for book in others:
            for robot_id, orders in book.items():
                heard.setdefault(robot_id, []).extend(orders)
        with self._changing:
            known = {robot_id: self._book.get(robot_id, ()) for robot_id in heard}
            joined = {name: _joined(known[name], orders) for name, orders in heard.items()}
            changed = {name: orders for name, orders in joined.items() if orders != known[name]}
            self._change(changed)
        if changed:
            logger.warning("heard from another gateway: orders to %s", ", ".join(sorted(changed)))
        self.keep()

    def confirm(self, robot_id: str, order_id: bytes, *, resumed: bool) -> None:
        """Note that a robot has obeyed, or that a person has resumed it since."""
        with self._changing:
            known = self._book.get(robot_id, ())
            said = [one for one in known if one.order_id == order_id and not one.is_settled]
            if not said or not (resumed or not said[0].confirmed_at_ns):
                return
            now = msgspec.structs.replace(
                said[0],
                confirmed_at_ns=said[0].confirmed_at_ns or time.time_ns(),
                is_settled=resumed,
            )
            self._change({robot_id: tuple(now if one is said[0] else one for one in known)})
        logger.info("%s %s", robot_id, "was resumed" if resumed else "has stopped")
        self.keep()

    def keep(self) -> None:
        """Write what the disk does not have yet; ``disk_trouble`` says if that failed."""
        with self._writing:
            book = self._book
            if book is self._kept:
                return
            try:
                write_over(self._file, msgspec.json.encode(book), mode=PUBLIC_MODE)
            except ConfigurationError as error:
                self._complain(str(error))
                return
            self._kept = book
            self.disk_trouble = ""

    def _complain(self, trouble: str) -> None:
        # It is tried again with whatever is asked or heard.
        if trouble != self.disk_trouble:
            logger.critical("orders to stop robots are not kept on disk: %s", trouble)
        self.disk_trouble = trouble

    def _change(self, changed: StopBook) -> None:
        if changed:
            # Replaced as a whole: other threads read it meanwhile.
            self._book = {**self._book, **{name: _trimmed(one) for name, one in changed.items()}}


def _state(robot_id: str, order: StopOrder) -> StopState:
    return StopState(
        robot_id=robot_id,
        ordered_at_ns=order.ordered_at_ns,
        by=order.by,
        confirmed_at_ns=order.confirmed_at_ns,
        trouble="a newer order has taken its place"
        if order.is_settled and not order.confirmed_at_ns
        else "",
    )


def _joined(known: Iterable[StopOrder], heard: Iterable[StopOrder]) -> tuple[StopOrder, ...]:
    """Return one robot's orders with what others say of them, and theirs that are open."""
    together = {one.order_id: one for one in known}
    own = set(together)
    for one in heard:
        together[one.order_id] = together.get(one.order_id, one).together(one)
    return tuple(one for one in together.values() if one.order_id in own or not one.is_settled)


def _trimmed(orders: tuple[StopOrder, ...]) -> tuple[StopOrder, ...]:
    """Return the orders without the oldest settled ones; an open one is never forgotten."""
    forgotten = [one for one in orders if one.is_settled][:-KEPT_SETTLED]
    return tuple(one for one in orders if one not in forgotten)
