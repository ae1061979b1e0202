"""Where the tests of the wire begin: keys in a folder of the test's own, a gateway, an outbox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.ingestion.gateway import Gateway
from robot_agent.delivery.outbox import Outbox
from tests.delivery_site import DeliverySite, make_site


@pytest.fixture
def site(tmp_path: Path) -> DeliverySite:
    """The learner's keys, and a registry in which nobody is enrolled."""
    return make_site(tmp_path)


@pytest.fixture
def gateway(site: DeliverySite) -> Iterator[Gateway]:
    """The site's gateway, from the test's begin to its end."""
    with site.running_gateway() as gateway:
        yield gateway


@pytest.fixture
def long_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever said hello stays connected, however long it is silent on a machine that is slow."""
    monkeypatch.setattr("learner.ingestion.sessions.IN_USE_S", 600.0)
    monkeypatch.setattr("learner.monitoring.fleet_state.LIVE_S", 600.0)


@pytest.fixture
def outbox(site: DeliverySite) -> Iterator[Outbox]:
    """The outbox of robot ``arm``, without a limit that matters."""
    outbox = site.outbox("arm")
    yield outbox
    outbox.close()
