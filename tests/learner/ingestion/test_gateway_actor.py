"""The gateway in a process of its own, on a real Ray."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.cluster import ray_of
from learner.config import GatewayConfig, KeysConfig, LearnerConfig
from learner.ingestion.gateways import Gateways
from tests.delivery_site import STORE_BYTES, DeliverySite, make_site


@pytest.fixture
def site(tmp_path: Path) -> DeliverySite:
    return make_site(tmp_path)


@pytest.fixture
def gateways(site: DeliverySite) -> Iterator[Gateways]:
    secret = site.folder / "keys" / "learner.secret"
    keys = KeysConfig(
        server_secret=secret, release_secret=secret, registry=site.folder / "registry"
    )
    gateway = GatewayConfig(bind=site.endpoint, store=site.store, max_store_bytes=STORE_BYTES)
    config = LearnerConfig(run_folder=site.folder / "run", keys=keys, gateway=gateway)
    with ray_of(config):
        gateways = Gateways(config)
        gateways.await_endpoint()
        yield gateways
        gateways.close(10.0)


@pytest.mark.slow
def test_a_registry_that_is_away_for_a_moment_is_said_and_ends_nothing(
    site: DeliverySite, gateways: Gateways, caplog: pytest.LogCaptureFixture
):
    registry, aside = site.folder / "registry", site.folder / "aside"
    assert gateways.status(20.0) is not None
    registry.rename(aside)
    with caplog.at_level(logging.ERROR):
        assert gateways.status(20.0) is None
        assert gateways.status(20.0) is None
    said = [one for one in caplog.messages if one.startswith("a gateway is there and cannot say")]
    assert len(said) == 1
    assert str(registry) in said[0]
    aside.rename(registry)
    assert gateways.status(20.0) is not None
