"""Keeps up with a camera on a thread of its own, so that no picture is ever an old one.

A camera queues what nobody fetches. The thread fetches every picture at once, which is cheap, and
decodes only those that somebody waits for. What fails is opened again, with growing pauses.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Event, Thread
from typing import Annotated, Protocol

import cv2
import msgspec
import numpy as np

from protocol.episode import ImageArray
from protocol.errors import CameraError, GraspFleetError
from robot_agent.cameras.base import Frame

logger = logging.getLogger(__name__)

PictureTimeout = Annotated[float, msgspec.Meta(ge=0.05, le=60)]
"""Seconds that a picture may take; below safety.stall_s, see AgentConfig."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Between two tries to open a camera that failed; doubled each time."""
FROZEN_S = 1.0
"""A camera that gives nothing new for so long, while a picture is wanted, is opened again."""
CLOSE_S = 1.0
"""Closing waits for the thread so long; a device that hangs keeps only a daemon thread."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """When a picture was exposed, nanoseconds of the monotonic clock."""

    began_ns: int
    """The earliest moment at which it may have begun."""
    ended_ns: int
    """The latest moment at which it may have ended."""


class FrameSource(Protocol):
    """Pictures, one after the other. Used by one thread at a time."""

    def grab(self) -> Exposure:
        """Wait for the next picture and keep it undecoded.

        Raises:
            CameraError: none came, or the device is gone; close it and open it again.
        """
        ...

    def retrieve(self) -> ImageArray:
        """Return the picture grabbed last, uint8[H, W, 3], RGB.

        Raises:
            CameraError: it cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Let go of the device. May be called twice."""
        ...


class NewestFrame:
    """Gives pictures of one source that are newer than a given moment."""

    def __init__(
        self,
        source: FrameSource,
        reopen: Callable[[], FrameSource],
        *,
        name: str,
        timeout_s: float,
        keeps_up: bool = True,
        may_repeat: bool = False,
    ) -> None:
        """Read ``source`` from now on.

        Args:
            source: open already, so that whoever opens a camera learns at once that it cannot.
            reopen: opens it anew after a failure.
            name: what errors call the camera.
            timeout_s: how long a picture may take, failures and reopening included.
            keeps_up: fetch pictures that nobody wants, too; without it each is given once.
            may_repeat: equal pictures one after the other are no failure. No sensor gives two
                that are equal in every byte.
        """
        self._source: FrameSource | None = source
        self._reopen = reopen
        self._name = name
        self._timeout_s = timeout_s
        self._keeps_up = keeps_up
        self._may_repeat = may_repeat
        self._changed = Condition()
        self._wanted_ns: int | None = None
        self._frame: Frame | None = None
        self._trouble = ""
        self._has_ended = False
        self._last_image: ImageArray | None = None
        self._last_began_ns = -1
        self._still_since_s: float | None = None
        self._closing = Event()
        self._thread = Thread(target=self._read_on, name=f"camera {name}", daemon=True)
        self._thread.start()

    def after(self, moment_ns: int) -> Frame:
        """Return a picture whose exposure began after ``moment_ns`` of the monotonic clock.

        Raises:
            CameraError: there was none in time: unplugged, frozen, or too slow.
        """
        with self._changed:
            self._wanted_ns, self._frame = moment_ns, None
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._frame is not None or self._has_ended, self._timeout_s
            )
            frame, self._wanted_ns = self._frame, None
        if frame is None:
            raise CameraError(
                f"{self._name}: no new picture within {self._timeout_s:g} s: "
                + (self._trouble or "it delivers nothing; is its cable in?")
            )
        return frame

    def close(self) -> None:
        """Stop reading and let go of the camera. May be called twice."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(CLOSE_S)

    def _read_on(self) -> None:
        """Read until closed; what nobody foresaw is told to whoever asks for a picture."""
        try:
            self._read_and_reopen()
        except Exception as error:
            logger.exception("%s: its thread ended", self._name)
            self._trouble = f"its thread ended by {error!r}; start the agent again"
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()
            self._let_go()

    def _read_and_reopen(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._closing.is_set():
            try:
                if self._source is None:
                    self._source = self._reopen()
                    logger.info("%s: open again", self._name)
                if self._is_awaited():
                    self._take_one(self._source)
                    pause_s = FIRST_PAUSE_S
            except (GraspFleetError, OSError, cv2.error) as error:
                self._trouble = str(error)
                logger.warning("%s: opened again in %.1f s, after: %s", self._name, pause_s, error)
                self._let_go()
                self._closing.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _is_awaited(self) -> bool:
        """Return whether a picture is to be fetched now; may wait until one is."""
        if self._keeps_up:
            return True
        with self._changed:
            self._changed.wait_for(self._is_wanted_or_closing)
        return not self._closing.is_set()

    def _is_wanted_or_closing(self) -> bool:
        return self._closing.is_set() or (self._wanted_ns is not None and self._frame is None)

    def _take_one(self, source: FrameSource) -> None:
        exposure = source.grab()
        if exposure.began_ns <= self._last_began_ns:
            self._stands_still("the timestamps of its pictures do not advance")
            return
        self._last_began_ns = exposure.began_ns
        wanted_ns = self._wanted_ns
        if wanted_ns is None or self._frame is not None:
            self._still_since_s = None
            return
        if exposure.began_ns <= wanted_ns:
            return
        image = source.retrieve()
        if not self._may_repeat and _are_equal(image, self._last_image):
            self._stands_still("it gives the same picture again and again")
            return
        self._last_image, self._still_since_s, self._trouble = image, None, ""
        ended_ns = exposure.ended_ns
        frame = Frame(image=image, captured_at_ns=_utc_ns(ended_ns), exposed_ns=ended_ns)
        self._give(frame, wanted_ns)

    def _give(self, frame: Frame, wanted_ns: int) -> None:
        with self._changed:
            # Whoever asked may have given up, and somebody else asked meanwhile.
            if self._wanted_ns == wanted_ns:
                self._frame = frame
                self._changed.notify_all()

    def _stands_still(self, how: str) -> None:
        """Raise CameraError once nothing new has come for FROZEN_S."""
        now_s = time.monotonic()
        if self._still_since_s is None:
            self._still_since_s = now_s
        if now_s - self._still_since_s >= FROZEN_S:
            self._still_since_s = None
            raise CameraError(f"{self._name}: frozen: {how}; or its lens is covered")

    def _let_go(self) -> None:
        source, self._source = self._source, None
        # Another device, or the same after a restart, may count from zero.
        self._last_began_ns = -1
        if source is not None:
            source.close()


def _are_equal(image: ImageArray, last: ImageArray | None) -> bool:
    return last is not None and np.array_equal(image, last)


def _utc_ns(monotonic_ns: int) -> int:
    # In this order: a thread that is held up between the two reads makes no picture older.
    now_ns = time.monotonic_ns()
    return time.time_ns() - (now_ns - monotonic_ns)
