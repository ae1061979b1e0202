"""What the gateway makes of a record before it is stored."""

from __future__ import annotations

from pathlib import Path

from learner.config import GatewayConfig
from learner.ingestion.gateway import Gateway
from protocol.codec import encode_episode
from protocol.messages import Ack, Refusal
from tests.delivery_site import STORE_BYTES, make_site
from tests.episodes import make_episode
from tests.peer import SPOOL, Peer


def test_pictures_of_another_size_are_refused_by_sequence_so_that_the_robot_keeps_them_aside(
    tmp_path: Path,
):
    site = make_site(tmp_path)
    keys = site.enrol("arm")
    config = GatewayConfig(bind=site.endpoint, store=site.store, max_store_bytes=STORE_BYTES)
    secret = tmp_path / "keys" / "learner.secret"
    gateway = Gateway(config, secret, tmp_path / "registry", image_size_px=(64, 64))
    gateway.start()
    peer = Peer(site, keys)
    try:
        peer.hello("arm")
        refusal = peer.submit(1, encode_episode(make_episode("arm", side_px=32)))
        ack = peer.submit(2, encode_episode(make_episode("arm", side_px=64)))
    finally:
        peer.close()
        gateway.stop()
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.sequence, refusal.spool_id) == ("picture-size", 1, SPOOL)
    assert ack == Ack(spool_id=SPOOL, sequences=[2])
    assert gateway.refusals()["picture-size"] == 1
