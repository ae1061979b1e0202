"""Closing many parts: every one of them, and the first error is the one that is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

logger = logging.getLogger(__name__)


class ClosingStack(ExitStack):
    """An ExitStack in which an error of closing never hides what went wrong before it."""

    def closes(self, what: str, close: Callable[[], object]) -> None:
        """Call ``close`` at the end; ``what`` names the part if that fails."""

        def leave(
            _kind: type[BaseException] | None,
            before: BaseException | None,
            _trace: TracebackType | None,
        ) -> bool:
            try:
                close()
            except Exception:
                if before is None:
                    raise
                logger.exception("%s could not be closed", what)
            return False

        self.push(leave)
