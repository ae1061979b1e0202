"""What speaks against the learner itself: its stores, its disks, its training, who knocks."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.concern import LEARNER, Concern, critical, warning
from fleet.words import counted, duration
from protocol.messages import LearnerCondition, StatusReply

MOST_STORE_SHARE = 0.95
LEAST_DISK_SHARE = 0.05
MOST_QUEUE_SHARE = 0.8
MOST_KEYS_REFUSED = 2
TRAINER_SILENT_S = 180.0
TRAINER_UNHEARD_S = 420.0
"""Since the learner began: first the trainer reads what was stored before."""
TRAINING_STALLED_S = 600.0
"""As in the alerts of deploy/prometheus, with the time that those wait; a test compares."""


def learner_ailments(status: StatusReply) -> Iterator[Concern]:
    """Yield what is wrong with the learner, whatever becomes of its robots."""
    for condition in status.conditions:
        yield from _about_a_gateway(condition)
    if status.conditions:
        yield from _about_training(status)


def _about_a_gateway(condition: LearnerCondition) -> Iterator[Concern]:
    where = f"gateway {condition.gateway}: " if condition.gateway else ""
    stored = _share(condition.store_bytes, condition.store_limit_bytes)
    if stored > MOST_STORE_SHARE:
        yield critical(
            LEARNER,
            f"{where}the episode store has reached {stored:.0%} of the "
            f"{condition.store_limit_bytes / 1e9:.1f} GB that it may take",
            "when it is full, robots keep their episodes: see gateway.max_store_bytes, keep_bytes "
            "and keep_days",
        )
    free = _share(condition.disk_free_bytes, condition.disk_size_bytes)
    if condition.disk_size_bytes and free < LEAST_DISK_SHARE:
        yield critical(
            LEARNER,
            f"{where}{free:.1%} of the store's disk are free, "
            f"{condition.disk_free_bytes / 1e9:.1f} GB",
            "make room: without it nothing more is stored",
        )
    queued = _share(condition.queued_bytes, condition.queue_limit_bytes)
    if queued > MOST_QUEUE_SHARE:
        yield warning(
            LEARNER,
            f"{where}for five minutes at least {queued:.0%} of the queue to the disk were taken",
            "the disk does not keep up with what robots send",
        )
    if condition.keys_refused > MOST_KEYS_REFUSED:
        yield warning(
            LEARNER,
            f"{where}keys that are not accepted were refused {condition.keys_refused} times in "
            "ten minutes",
            "its log says from where; a robot whose key was revoked may still be running",
        )


def _about_training(status: StatusReply) -> Iterator[Concern]:
    """The trainer speaks to one gateway; the others have heard nothing."""
    heard = [one for one in status.conditions if one.trainer_silent_s is not None]
    remedy = "episodes are stored, nothing is learnt: the learner's log says why"
    if not heard:
        if status.uptime_s > TRAINER_UNHEARD_S:
            yield warning(
                LEARNER,
                "the trainer has said nothing since the gateway began "
                f"{duration(status.uptime_s)} ago",
                remedy,
            )
        return
    latest = min(heard, key=lambda one: one.trainer_silent_s or 0.0)
    silent_s, stalled_s = latest.trainer_silent_s or 0.0, latest.training_stalled_s or 0.0
    if silent_s > TRAINER_SILENT_S:
        yield warning(LEARNER, f"the trainer has said nothing for {duration(silent_s)}", remedy)
    elif stalled_s > TRAINING_STALLED_S:
        yield warning(
            LEARNER,
            f"training has stood at {counted(latest.training_steps, 'step')} for "
            f"{duration(stalled_s)}, although there is something to learn from",
            "the learner's log says why",
        )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
