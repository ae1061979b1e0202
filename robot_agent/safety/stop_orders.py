"""Operators' orders to stop, as they come from the learner: each is obeyed once."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from protocol.errors import ConfigurationError
from protocol.key_files import PUBLIC_MODE, write_over
from protocol.messages import OrderId, Stop, StopConfirmation
from robot_agent.safety.emergency_stop import EmergencyStop

logger = logging.getLogger(__name__)

_REMEMBERED = 64
"""An order that is older than so many others would stop the robot once more."""


class StopOrders:
    """Knows which orders were obeyed, also by an agent that ran before. Belongs to one thread."""

    def __init__(self, state_folder: Path, emergency: EmergencyStop) -> None:
        """Read which orders were obeyed. What is damaged there counts for nothing."""
        self._file = state_folder / "stop-orders.json"
        self._emergency = emergency
        self._obeyed: list[bytes] = []
        try:
            self._obeyed = msgspec.json.decode(self._file.read_bytes(), type=list[OrderId])
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("%s: ignored, an old order may stop it again: %s", self._file, error)

    def obey(self, stop: Stop) -> StopConfirmation | None:
        """Stop the robot, unless it was resumed since it obeyed this order; return what to answer.

        None while it may still move, or the stop is not on disk: the order is given again then.
        """
        is_known = stop.order_id in self._obeyed
        if is_known and self._emergency.pulled is None:
            return StopConfirmation(order_id=stop.order_id, resumed=True)
        self._emergency.pull(f"by {stop.by}, over the learner")
        # From then on a person lifts the stop, also of an arm that never took it from its agent.
        if self._emergency.await_kept() and not is_known:
            self._note(stop.order_id)
        return StopConfirmation(order_id=stop.order_id) if self._emergency.is_held else None

    def _note(self, order_id: bytes) -> None:
        self._obeyed = [*self._obeyed, order_id][-_REMEMBERED:]
        try:
            write_over(self._file, msgspec.json.encode(self._obeyed), mode=PUBLIC_MODE)
        except ConfigurationError as error:
            logger.warning("an order to stop is obeyed, but not noted on disk: %s", error)
