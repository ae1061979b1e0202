"""An operator asks whichever gateway answers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from fleet.status import StatusClient
from protocol.errors import TransientError
from tests.delivery_site import DeliverySite, make_site
from tests.free_ports import free_port
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def site(tmp_path: Path) -> DeliverySite:
    site = make_site(tmp_path)
    site.enrol("operator", "operator")
    return site


def client_of(site: DeliverySite, *endpoints: str) -> StatusClient:
    return StatusClient(endpoints, site.keys_of("operator"), site.server_public())


def answers(client: StatusClient) -> bool:
    with suppress(TransientError):
        return client.fetch(0.5).episodes_stored == 0
    return False


def test_a_gateway_that_is_gone_is_passed_over(site: DeliverySite):
    nobody = f"tcp://127.0.0.1:{free_port()}"
    with site.running_gateway(), client_of(site, nobody, site.endpoint) as client:
        wait_until(lambda: answers(client), "the one that is there answers")
        # From now on it is asked first.
        assert client.fetch(PATIENCE_S).robots == []


def test_when_none_answers_it_is_said(site: DeliverySite):
    with (
        client_of(site, site.endpoint, f"tcp://127.0.0.1:{free_port()}") as client,
        pytest.raises(TransientError, match=r"did not answer in 0\.2 s"),
    ):
        client.fetch(0.2)
