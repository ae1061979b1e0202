"""Which robots an operator has stopped: a small file beside the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from protocol.errors import ConfigurationError
from protocol.key_files import PUBLIC_MODE, write_over
from protocol.messages import OrderId, StopState

logger = logging.getLogger(__name__)

STOPS_FILE = "stops.json"


class StopOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One robot's; kept until a person has resumed it."""

    order_id: OrderId
    by: str
    ordered_at_ns: int
    confirmed_at_ns: int = 0
    """0 until the robot holds still."""


class StopOrders:
    """The orders of one gateway. Any thread may ask; changes are the gateway's thread's."""

    def __init__(self, file: Path) -> None:
        """Read the file, if there is one.

        Raises:
            ConfigurationError: it cannot be read or is damaged. To go on without it would let a
                robot start that an operator has stopped.
        """
        self._file = file
        try:
            self._orders = msgspec.json.decode(file.read_bytes(), type=dict[str, StopOrder])
        except FileNotFoundError:
            self._orders = {}
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigurationError(
                f"orders to stop robots {file}: {error}; mend the file, or remove it and stop "
                "again whoever shall be stopped"
            ) from error

    def of(self, robot_id: str) -> StopOrder | None:
        """Return what a robot shall obey; None when it may go on."""
        return self._orders.get(robot_id)

    def state(self, robot_id: str) -> StopState | None:
        """Return the same, for people."""
        order = self.of(robot_id)
        if order is None:
            return None
        return StopState(
            robot_id=robot_id,
            ordered_at_ns=order.ordered_at_ns,
            by=order.by,
            confirmed_at_ns=order.confirmed_at_ns,
        )

    def add(self, robot_ids: Iterable[str], order_id: bytes, by: str) -> None:
        """Stop robots; an order that is known already changes nothing."""
        order = StopOrder(order_id=order_id, by=by, ordered_at_ns=time.time_ns())
        fresh = {
            name: order
            for name in robot_ids
            if (known := self.of(name)) is None or known.order_id != order_id
        }
        if fresh:
            logger.warning("stopped by %s: %s", by, ", ".join(sorted(fresh)))
            self._replace(self._orders | fresh)

    def confirm(self, robot_id: str, order_id: bytes, *, resumed: bool) -> None:
        """Note that a robot has obeyed, or that a person has resumed it since."""
        order = self.of(robot_id)
        if order is None or order.order_id != order_id:
            return
        rest = {name: one for name, one in self._orders.items() if name != robot_id}
        if resumed:
            logger.info("%s was resumed", robot_id)
            self._replace(rest)
        elif not order.confirmed_at_ns:
            logger.info("%s has stopped", robot_id)
            stopped = msgspec.structs.replace(order, confirmed_at_ns=time.time_ns())
            self._replace(rest | {robot_id: stopped})

    def _replace(self, orders: dict[str, StopOrder]) -> None:
        self._orders = orders
        try:
            write_over(self._file, msgspec.json.encode(orders), mode=PUBLIC_MODE)
        except ConfigurationError as error:
            # Who is connected is stopped all the same.
            logger.critical("orders to stop robots are not kept on disk: %s", error)
