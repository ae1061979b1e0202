"""Episodes on their way from real outboxes into a real store."""

from __future__ import annotations

from fleet.fleet_files import agent_config
from fleet.run_folder import RunFolder
from learner.store.episode_store import EpisodeStore
from learner.store.ledger import letter_of
from learner.store.stored_episode import Arrival, RecordKey
from protocol.codec import digest, encode_episode
from protocol.episode import Mode
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox
from tests.episodes import make_episode

EPISODES = 5


def deliver(folder: RunFolder, name: str, *, lost: tuple[int, ...] = (), seed: int = 0) -> None:
    """Send a robot's episodes from its outbox to the store; the store loses some of them."""
    outbox = Outbox(agent_config(folder, name).state_folder, OutboxConfig())
    store = EpisodeStore(folder.store, 2**28)
    for index in range(EPISODES):
        episode = make_episode(name, seed=seed + index, success=index % 2 == 0, mode=Mode.GREEDY)
        record = encode_episode(episode)
        sequence = outbox.put(record)
        if sequence not in lost:
            key = RecordKey(robot_id=name, spool_id=outbox.spool_id, sequence=sequence)
            letter = letter_of(episode.outcome.label, episode.mode)
            store.commit([Arrival(key=key, digest=digest(record), record=record, letter=letter)])
        outbox.forget([sequence])
    store.close()
    outbox.close()
