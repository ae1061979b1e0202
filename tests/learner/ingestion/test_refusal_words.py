"""What a gateway says where its own words cannot go out as they are."""

from __future__ import annotations

import os
from pathlib import Path

from learner.config import GatewayConfig
from learner.ingestion.gateway import Gateway
from protocol.codec import encode_message
from protocol.messages import Refusal, StatusReply, StatusRequest
from tests.delivery_site import STORE_BYTES, make_site
from tests.peer import Peer


def test_a_gateway_answers_where_a_folder_has_a_name_that_is_no_utf8(tmp_path: Path):
    site = make_site(tmp_path)
    peer = Peer(site, site.enrol("operator", "operator"))
    registry = tmp_path / os.fsdecode(b"gr\xfcn")
    (tmp_path / "registry").rename(registry)
    question = encode_message(StatusRequest())
    config = GatewayConfig(bind=site.endpoint, store=site.store, max_store_bytes=STORE_BYTES)
    gateway = Gateway(config, tmp_path / "keys" / "learner.secret", registry)
    gateway.start()
    try:
        assert isinstance(peer.ask(question), StatusReply)
        registry.rename(tmp_path / "away")
        answer = peer.ask(question)
        while isinstance(answer, StatusReply):  # the registry is looked at now and then
            answer = peer.ask(question)
    finally:
        gateway.stop()
        peer.close()
    assert isinstance(answer, Refusal)
    assert answer.reason.startswith(f"registry {tmp_path}/gr?n: No such file or directory")
