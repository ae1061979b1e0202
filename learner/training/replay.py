"""The replay: attempts as examples in memory, some of them held out."""

from __future__ import annotations

import hashlib
import os

from learner.config import FEWEST_HELD_OUT, LearnerConfig
from learner.training.example_set import ExampleSet, row_bytes
from protocol.episode import Episode, Label
from protocol.errors import ConfigurationError, RejectedEpisodeError
from protocol.limits import EPISODE_LIMITS

_FEWEST_PICTURES = 10 * (EPISODE_LIMITS.steps + 1)


class Replay:
    """The newest labelled attempts, split into training and held-out examples."""

    def __init__(
        self,
        *,
        height_px: int,
        width_px: int,
        held_out_fraction: float,
        max_bytes: int = 1_000_000_000,
        max_attempts: int = 0,
        most_repeats: float = 4.0,
    ) -> None:
        """Reserve address space; memory is taken up as attempts come.

        Args:
            height_px: of every picture.
            width_px: of every picture.
            held_out_fraction: of the attempts, and of ``max_bytes``.
            max_bytes: what the examples may take up; when it is reached, some go (see ExampleSet).
            max_attempts: how many attempts are kept; 0 for what there is room for.
            most_repeats: see ``balance.balanced``.
        """

        def examples(share: float) -> ExampleSet:
            return ExampleSet(
                height_px=height_px,
                width_px=width_px,
                max_bytes=int(share * max_bytes),
                most_repeats=most_repeats,
            )

        self.training = examples(1 - held_out_fraction)
        self.held_out = examples(held_out_fraction)
        self._size_px = (height_px, width_px)
        self._held_out_fraction = held_out_fraction
        self._max_attempts = max_attempts

    @property
    def attempts(self) -> int:
        """Labelled attempts that are held now."""
        return self.training.attempts + self.held_out.attempts

    def add(self, episode: Episode, calibration: int) -> int:
        """Add an attempt as the newest; return how many training examples it gave.

        Aborted ones teach nothing and are left out. ``calibration`` is the key that
        ``HandEyeRefiner`` gave.

        Raises:
            RejectedEpisodeError: its pictures are of another size; nothing was added.
        """
        if not self._is_wanted(episode):
            return 0
        chosen = self._set_of(episode)
        chosen.add(episode, calibration)
        if self._max_attempts:
            fraction = self._held_out_fraction
            self.training.drop_to(round((1 - fraction) * self._max_attempts))
            self.held_out.drop_to(round(fraction * self._max_attempts))
        return len(episode.steps) if chosen is self.training else 0

    def add_older(self, episode: Episode, calibration: int) -> int | None:
        """Add an attempt as its robot's oldest; return as ``add``, None when it is not wanted.

        Raises:
            RejectedEpisodeError: its pictures are of another size; nothing was added.
        """
        if not self._is_wanted(episode):
            return 0
        if not self.wants_older(episode.robot_id):
            return None
        chosen = self._set_of(episode)
        if not chosen.add_older(episode, calibration):
            # Held-out attempts must not run out of room before the others do: those just go on.
            return None if chosen is self.training else 0
        return len(episode.steps) if chosen is self.training else 0

    def wants_older(self, robot_id: str) -> bool:
        """Say whether older attempts of this robot are of use for training."""
        if self._max_attempts and self.attempts >= self._max_attempts:
            return False
        return self.training.wants_older(robot_id)

    def check(self, episode: Episode) -> None:
        """Return if an attempt may be added.

        Raises:
            RejectedEpisodeError: its pictures are of another size.
        """
        found = episode.first_image.shape[:2]
        if found != self._size_px:
            raise RejectedEpisodeError(
                f"episode {episode.episode_id} of {episode.robot_id}: pictures of {found[0]} x "
                f"{found[1]} px (height, width), the learner is configured for "
                f"{self._size_px[0]} x {self._size_px[1]}"
            )

    def _is_wanted(self, episode: Episode) -> bool:
        self.check(episode)
        return episode.outcome.label != Label.ABORTED and bool(episode.steps)

    def _set_of(self, episode: Episode) -> ExampleSet:
        # By the episode's own id, so that a restarted learner makes the same choice.
        draw = int.from_bytes(hashlib.sha256(episode.episode_id.encode()).digest()[:8], "big")
        return self.held_out if draw < self._held_out_fraction * 2**64 else self.training


def replay_of(config: LearnerConfig, *, share: float = 1.0) -> Replay:
    """Return an empty replay as configured, with this share of its memory.

    Raises:
        ConfigurationError: ``replay_bytes`` is too little to train from, or more than there is.
    """
    training = config.training
    max_bytes = int(share * training.replay_bytes)
    one = row_bytes(height_px=config.image_height_px, width_px=config.image_width_px)
    least = _FEWEST_PICTURES * one
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if max_bytes < least:
        raise ConfigurationError(
            f"training.replay_bytes {training.replay_bytes}: {max_bytes // one} pictures fit, "
            f"fewer than {_FEWEST_PICTURES}; allow {int(least / share) + 1} or more"
        )
    held_out = int(training.held_out_fraction * max_bytes) // one
    wanted = FEWEST_HELD_OUT * (config.collection.final_max_moves + 1)
    if training.held_out_fraction and held_out < wanted:
        raise ConfigurationError(
            f"training.replay_bytes {training.replay_bytes} with held_out_fraction "
            f"{training.held_out_fraction}: {held_out} held-out pictures fit, and the "
            f"{FEWEST_HELD_OUT} attempts that a release is judged on take {wanted}; allow "
            f"{int(wanted * one / training.held_out_fraction / share) + 1} or more"
        )
    if training.replay_bytes > there:
        raise ConfigurationError(
            f"training.replay_bytes {training.replay_bytes}: this machine has {there} bytes of "
            "memory in all"
        )
    return Replay(
        height_px=config.image_height_px,
        width_px=config.image_width_px,
        held_out_fraction=training.held_out_fraction,
        max_bytes=max_bytes,
        max_attempts=training.replay_attempts,
        most_repeats=training.most_repeats,
    )
