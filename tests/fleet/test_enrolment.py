"""Enrolling a robot: one folder to copy, and the robot is in."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fleet.enrolment import (
    LearnerAddress,
    enrol_robot,
    ensure_learner_keys,
    revoke_robot,
)
from protocol.errors import ConfigurationError
from protocol.key_files import write_new
from protocol.registry import Member, Registry
from protocol.security import (
    load_curve_keys,
    load_curve_public,
    load_release_public,
    load_release_secret,
)
from tests.learner_keys import create_learner_keys


@pytest.fixture
def learner(tmp_path: Path) -> LearnerAddress:
    create_learner_keys(tmp_path / "keys")
    return LearnerAddress(
        keys=tmp_path / "keys", episodes="tcp://learner:5701", releases="tcp://learner:5702"
    )


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def test_a_bundle_holds_all_that_a_robot_needs(
    learner: LearnerAddress, registry: Registry, tmp_path: Path
):
    bundle = tmp_path / "bundle"
    enrol_robot(registry, "arm", bundle, learner)
    keys = load_curve_keys(bundle / "robot.secret")
    assert registry.member_for_key(keys.public.decode()) == Member(name="arm", role="robot")
    table = tomllib.loads((bundle / "robot-part.toml").read_text())
    assert table["name"] == "arm"
    assert table["learner"]["episodes"] == "tcp://learner:5701"
    public = load_curve_public(bundle / table["learner"]["public_key"])
    assert public == load_curve_keys(learner.keys / "server.secret").public
    signature = load_release_secret(learner.keys / "release.secret").sign(b"x")
    load_release_public(bundle / table["learner"]["release_key"]).verify(signature, b"x")


def test_no_secret_of_the_learner_is_in_a_bundle(
    learner: LearnerAddress, registry: Registry, tmp_path: Path
):
    enrol_robot(registry, "arm", tmp_path / "bundle", learner)
    secrets = [path.read_bytes() for path in learner.keys.glob("*.secret")]
    for path in (tmp_path / "bundle").iterdir():
        assert all(secret not in path.read_bytes() for secret in secrets)
    assert {path.name for path in (tmp_path / "bundle").glob("*.secret")} == {"robot.secret"}


def test_a_name_that_is_taken_makes_no_bundle(
    learner: LearnerAddress, registry: Registry, tmp_path: Path
):
    enrol_robot(registry, "arm", tmp_path / "first", learner)
    with pytest.raises(ConfigurationError, match="arm is enrolled already"):
        enrol_robot(registry, "arm", tmp_path / "second", learner)
    assert not (tmp_path / "second").exists()


def test_a_revoked_robot_is_out(learner: LearnerAddress, registry: Registry, tmp_path: Path):
    enrol_robot(registry, "arm", tmp_path / "bundle", learner)
    revoke_robot(registry, "arm")
    key = load_curve_keys(tmp_path / "bundle" / "robot.secret").public.decode()
    assert registry.member_for_key(key) is None


def test_the_operator_is_neither_shut_out_nor_made_a_robot(
    learner: LearnerAddress, registry: Registry, tmp_path: Path
):
    ensure_learner_keys(learner.keys, registry)
    with pytest.raises(ConfigurationError, match="operator is no robot"):
        revoke_robot(registry, "operator")
    with pytest.raises(ConfigurationError, match="'operator' is the operator's own name"):
        enrol_robot(registry, "operator", tmp_path / "bundle", learner)
    assert [(each.name, each.role) for each in registry.members()] == [("operator", "operator")]
    assert not (tmp_path / "bundle").exists()


def test_an_operator_that_the_registry_lacks_is_enrolled_again_with_the_key_it_has(
    learner: LearnerAddress, registry: Registry, tmp_path: Path
):
    ensure_learner_keys(learner.keys, registry)
    (tmp_path / "registry" / "operator.key").unlink()
    ensure_learner_keys(learner.keys, registry)
    key = load_curve_keys(learner.keys / "operator.secret").public.decode()
    assert registry.member_for_key(key) == Member(name="operator", role="operator")


def test_keys_that_were_left_half_made_are_completed_and_none_is_replaced(tmp_path: Path):
    ensure_learner_keys(tmp_path / "whole", Registry(tmp_path / "whole-registry"))
    made = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    order = [f"{name}.{half}" for name in ("server", "release") for half in ("secret", "public")]
    for written in range(len(order)):
        folder = tmp_path / str(written)
        for name in order[:written]:
            write_new(folder / name, made[name], mode=0o600)
        ensure_learner_keys(folder, Registry(tmp_path / f"{written}-registry"))
        assert {path.name for path in folder.iterdir()} == set(made)
        assert all((folder / name).read_bytes() == made[name] for name in order[:written])
        public = load_curve_public(folder / "server.public")
        assert public == load_curve_keys(folder / "server.secret").public
        signature = load_release_secret(folder / "release.secret").sign(b"x")
        load_release_public(folder / "release.public").verify(signature, b"x")


def test_the_keys_of_a_running_learner_are_not_replaced(learner: LearnerAddress):
    with pytest.raises(ConfigurationError, match="exists already"):
        create_learner_keys(learner.keys)


def test_enrolling_before_there_are_keys_says_what_is_missing(registry: Registry, tmp_path: Path):
    nowhere = LearnerAddress(keys=tmp_path / "none", episodes="tcp://a:1", releases="tcp://a:2")
    with pytest.raises(ConfigurationError, match=r"server\.secret is missing"):
        enrol_robot(registry, "arm", tmp_path / "bundle", nowhere)
