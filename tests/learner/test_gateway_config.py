"""One gateway is a table, several are a list of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleet.toml_text import toml_text
from learner.config import LearnerConfig
from learner.placement import places_of
from protocol.configuration import load_toml
from protocol.errors import ConfigurationError


def config_of(folder: Path, gateway: Any) -> LearnerConfig:
    keys = {"server_secret": "a", "release_secret": "b", "registry": "c"}
    table = {"run_folder": "run", "keys": keys, "gateway": gateway}
    (folder / "learner.toml").write_text(toml_text(table))
    return load_toml(folder / "learner.toml", LearnerConfig)


def test_one_machine_has_one_gateway(tmp_path: Path):
    (gateway,) = config_of(tmp_path, {"store": "episodes"}).gateways
    assert gateway.store == tmp_path / "episodes"


def test_several_gateways_have_places_and_stores_of_their_own(tmp_path: Path):
    tables = [{"place": "east", "advertise": "tcp://east.lab:5701"}, {"place": "west"}]
    config = config_of(tmp_path, tables)
    assert [one.place for one in config.gateways] == ["east", "west"]
    assert places_of(config) == {"east", "west"}


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ({"advertise": "tcp://east.lab:5701", "bind": "tcp://*:5701"}, "tcp://east.lab:5701"),
        ({"bind": "tcp://10.0.0.1:5701"}, "tcp://10.0.0.1:5701"),
        ({"bind": "tcp://0.0.0.0:5701"}, "in place east"),
        ({"bind": "tcp://[::]:5701"}, "in place east"),
        ({"bind": "tcp://10.0.0.1:*"}, "in place east"),
    ],
)
def test_a_gateway_is_called_by_its_endpoint_where_that_is_known_before_it_listens(
    tmp_path: Path, table: Any, name: str
):
    (gateway,) = config_of(tmp_path, table | {"place": "east"}).gateways
    assert gateway.name == name


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ([], "gateway: at least one is needed"),
        ([{"place": "a"}, {"place": "a", "bind": "tcp://*:1"}], "two gateways have store"),
        ([{"place": "a"}, {"place": "a", "store": "b"}], "two gateways have bind"),
        (
            [{"place": f"p{number}", "store": f"s{number}"} for number in range(65)],
            "65 exceed the 64 of one fleet",
        ),
        ([{"place": "a"}, {"plaec": "b"}], "did you mean 'place'"),
        ({"advertise": "east.lab:5701"}, "is not of the form 'tcp://host:port'"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, tables: Any, complaint: str):
    with pytest.raises(ConfigurationError, match=complaint):
        config_of(tmp_path, tables)
