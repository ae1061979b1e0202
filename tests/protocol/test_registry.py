"""The registry: who may speak, also when the folder changes under a running learner."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import zmq

from protocol.errors import ConfigurationError
from protocol.registry import Member, Registry
from tests.waiting import wait_until

ARM = Member(name="arm", role="robot")


def new_key() -> str:
    return zmq.curve_keypair()[0].decode()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "registry").mkdir()
    return Registry(tmp_path / "registry")


def test_an_enrolled_key_is_known_by_its_name(registry: Registry):
    key, other = new_key(), new_key()
    registry.enrol("arm-1", key)
    registry.enrol("desk", other, role="operator")
    assert registry.member_for_key(key) == Member(name="arm-1", role="robot")
    assert registry.member_for_key(other) == Member(name="desk", role="operator")
    assert registry.member_for_key(new_key()) is None


def test_a_change_by_another_process_is_seen_at_once(registry: Registry, tmp_path: Path):
    elsewhere = Registry(tmp_path / "registry")
    for key in (new_key() for _ in range(3)):
        assert registry.member_for_key(key) is None
        elsewhere.enrol("arm", key)
        assert registry.member_for_key(key) == ARM
        elsewhere.revoke("arm")
        assert registry.refusal_reason(key).startswith("the key of arm was revoked")


def test_a_key_that_is_edited_in_place_is_noticed(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("protocol.registry._LOOK_AT_FILES_S", 0.05)
    old, new = new_key(), new_key()
    registry.enrol("arm", old)
    wait_until(
        lambda: registry.member_for_key(old) == ARM and registry._is_current(), "it has settled"
    )
    file = tmp_path / "registry" / "arm.key"
    with file.open("r+") as content:
        content.write(file.read_text().replace(old, new))
    wait_until(lambda: registry.member_for_key(new) == ARM, "the new key is in")
    assert registry.member_for_key(old) is None


def test_a_folder_from_the_future_is_read_once_and_not_for_every_message(
    registry: Registry, tmp_path: Path
):
    key = new_key()
    registry.enrol("arm", key)
    later_s = time.time() + 86_400.0
    os.utime(tmp_path / "registry", (later_s, later_s))
    assert registry.member_for_key(key) is not None
    wait_until(lambda: registry.member_for_key(key) is not None and registry._is_current(), "once")
    assert registry._is_current()


def test_an_unknown_key_is_refused_with_the_remedy(registry: Registry):
    assert "run 'fleet enrol'" in registry.refusal_reason(new_key())


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "x" * 65, "..", "é"])
def test_a_name_that_is_no_name_is_refused(registry: Registry, name: str):
    with pytest.raises(ConfigurationError, match="A-Z a-z 0-9"):
        registry.enrol(name, new_key())


def test_neither_a_name_nor_a_key_is_enrolled_twice(registry: Registry):
    key = new_key()
    registry.enrol("arm", key)
    with pytest.raises(ConfigurationError, match="arm is enrolled already"):
        registry.enrol("arm", new_key())
    with pytest.raises(ConfigurationError, match="as arm"):
        registry.enrol("leg", key)


def test_revoking_a_stranger_says_who_is_enrolled(registry: Registry):
    registry.enrol("arm", new_key())
    with pytest.raises(ConfigurationError, match="'leg' is not enrolled; enrolled: arm"):
        registry.revoke("leg")


def test_every_key_that_a_name_ever_had_stays_revoked(registry: Registry, tmp_path: Path):
    keys = [new_key() for _ in range(3)]
    for key in keys:
        registry.enrol("arm", key)
        registry.revoke("arm")
    for key in keys:
        assert registry.refusal_reason(key).startswith("the key of arm was revoked")
    assert len(list((tmp_path / "registry").iterdir())) == 3


def test_a_name_with_parts_of_a_path_revokes_no_file_elsewhere(registry: Registry, tmp_path: Path):
    elsewhere = tmp_path / "other.key"
    elsewhere.write_text(f'public_key = "{new_key()}"\n')
    with pytest.raises(ConfigurationError, match=r"'\.\./other' is not enrolled; enrolled: nobody"):
        registry.revoke("../other")
    assert elsewhere.exists()


def test_a_revoked_name_may_be_enrolled_with_a_new_key(registry: Registry):
    old, new = new_key(), new_key()
    registry.enrol("arm", old)
    registry.revoke("arm")
    registry.enrol("arm", new)
    assert registry.member_for_key(new) == ARM
    assert registry.member_for_key(old) is None


def test_one_damaged_entry_shuts_out_nobody_else(registry: Registry, tmp_path: Path):
    key = new_key()
    (tmp_path / "registry" / "broken.key").write_bytes(b"\xff\xfe")
    (tmp_path / "registry" / "odd.key").write_text('public_key = "short"\n')
    registry.enrol("arm", key)
    assert [member.name for member in registry.members()] == ["arm"]


def test_a_key_under_two_names_is_nobodys(registry: Registry, tmp_path: Path):
    key = new_key()
    registry.enrol("arm", key)
    content = (tmp_path / "registry" / "arm.key").read_text()
    (tmp_path / "registry" / "copy.key").write_text(content)
    assert registry.member_for_key(key) is None


def test_a_registry_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="nowhere"):
        Registry(tmp_path / "nowhere").members()


def publish_as_config_map(folder: Path, stamp: str, files: dict[str, str]) -> None:
    """Replace what is in a folder as Kubernetes does: links into ``..data``, which is swapped."""
    version = folder / f"..{stamp}"
    version.mkdir(parents=True)
    for name, content in files.items():
        (version / name).write_text(content)
    (folder / "..data_tmp").symlink_to(version.name)
    (folder / "..data_tmp").rename(folder / "..data")
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)


def test_a_folder_of_links_that_is_swapped_revokes_and_enrols(tmp_path: Path):
    old, new = new_key(), new_key()
    publish_as_config_map(tmp_path, "v1", {"arm.key": f'public_key = "{old}"\n'})
    registry = Registry(tmp_path)
    settle(registry, old)
    changed = {"arm.key": f'public_key = "{new}"\n', "arm.revoked": f'public_key = "{old}"\n'}
    publish_as_config_map(tmp_path, "v2", changed)
    assert registry.member_for_key(old) is None
    assert registry.member_for_key(new) == ARM
    assert "was revoked" in registry.refusal_reason(old)


def settle(registry: Registry, key: str) -> None:
    """Ask until the registry goes by what it has read, since nothing has changed for a while."""
    wait_until(
        lambda: registry.member_for_key(key) is not None and registry._is_settled, "it is settled"
    )


def test_a_link_that_leads_nowhere_is_no_entry_and_shuts_out_nobody_else(
    registry: Registry, tmp_path: Path
):
    key, lost = new_key(), new_key()
    target = tmp_path / "lost"
    target.write_text(f'public_key = "{lost}"\n')
    registry.enrol("arm", key)
    (tmp_path / "registry" / "lost.key").symlink_to(target)
    settle(registry, lost)
    target.unlink()
    wait_until(lambda: registry.member_for_key(lost) is None, "what the link led to is gone")
    assert registry.member_for_key(key) == ARM


def test_a_key_that_is_among_the_revoked_is_nobodys_and_is_not_enrolled_again(
    registry: Registry, tmp_path: Path
):
    key = new_key()
    registry.enrol("arm", key)
    content = (tmp_path / "registry" / "arm.key").read_text()
    registry.revoke("arm")
    with pytest.raises(ConfigurationError, match="this key was revoked, as arm: enrol other with"):
        registry.enrol("other", key)
    (tmp_path / "registry" / "other.key").write_text(content)
    assert registry.member_for_key(key) is None
    assert "was revoked" in registry.refusal_reason(key)
