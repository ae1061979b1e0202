"""Key files: secrets stay secret, and every mistake is named with its remedy."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from protocol.errors import ConfigurationError
from protocol.key_files import credential_of, sync_folder, write_over
from protocol.security import (
    create_curve_keys,
    create_release_keys,
    load_curve_keys,
    load_curve_public,
    load_release_public,
    load_release_secret,
)

ROOT = Path(__file__).parents[2]


def test_curve_keys_are_read_back_as_they_were_made(tmp_path: Path):
    made = create_curve_keys(tmp_path / "a.secret", tmp_path / "a.key")
    loaded = load_curve_keys(tmp_path / "a.secret")
    assert (loaded.public, loaded.secret) == (made.public, made.secret)
    assert load_curve_public(tmp_path / "a.key") == made.public == zmq.curve_public(made.secret)


def test_secrets_are_readable_by_their_owner_alone_whatever_the_umask(tmp_path: Path):
    before = os.umask(0)
    try:
        create_curve_keys(tmp_path / "a.secret", tmp_path / "a.key")
        create_release_keys(tmp_path / "r.secret", tmp_path / "r.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "r.secret").stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"a.secret", "a.key", "r.secret", "r.key"}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_secret_that_others_may_read_is_refused_with_the_remedy(tmp_path: Path, mode: int):
    create_curve_keys(tmp_path / "a.secret", tmp_path / "a.key")
    create_release_keys(tmp_path / "r.secret", tmp_path / "r.key")
    for path, load in (
        (tmp_path / "a.secret", load_curve_keys),
        (tmp_path / "r.secret", load_release_secret),
    ):
        path.chmod(mode)
        with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
            load(path)


def test_a_service_reads_the_copy_of_its_secret_that_systemd_made_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = create_curve_keys(tmp_path / "given" / "robot.secret", tmp_path / "robot.key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "given"))
    found = credential_of(tmp_path / "bundle" / "robot.secret")
    # The mask of the ACL that names the service's user.
    found.chmod(0o440)
    assert load_curve_keys(found).secret == made.secret
    found.chmod(0o444)
    with pytest.raises(ConfigurationError, match="lets others read it"):
        load_curve_keys(found)


def test_a_secret_that_is_no_credential_is_read_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "given"))
    assert credential_of(tmp_path / "robot.secret") == tmp_path / "robot.secret"


def test_a_secret_that_others_may_replace_is_refused_with_the_remedy(tmp_path: Path):
    folder = tmp_path / "keys"
    create_curve_keys(folder / "a.secret", folder / "a.key")
    folder.chmod(0o757)
    with pytest.raises(ConfigurationError, match=f"chmod go-w {folder}"):
        load_curve_keys(folder / "a.secret")
    # As in /tmp: everybody may write, but nobody may replace what is another's.
    folder.chmod(0o1777)
    load_curve_keys(folder / "a.secret")


@pytest.mark.parametrize(
    "load", [load_curve_keys, load_curve_public, load_release_secret, load_release_public]
)
def test_a_missing_key_file_is_named_with_the_remedy(tmp_path: Path, load):
    with pytest.raises(
        ConfigurationError, match=r"gone\.key is missing; on the learner 'fleet enrol'"
    ):
        load(tmp_path / "gone.key")


@pytest.mark.parametrize(
    "content", [b"", b"curve-secret", b"curve-secret tooshort", b"\xff" * 60, b"x" * 20_000]
)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "a.secret"
    path.write_bytes(content)
    path.chmod(0o600)
    for load in (load_curve_keys, load_release_secret):
        with pytest.raises(ConfigurationError, match=r"a\.secret"):
            load(path)


def test_a_public_key_is_not_taken_for_a_secret_one(tmp_path: Path):
    create_curve_keys(tmp_path / "a.secret", tmp_path / "a.key")
    (tmp_path / "a.key").chmod(0o600)
    with pytest.raises(ConfigurationError, match="holds a curve-public key, but a curve-secret"):
        load_curve_keys(tmp_path / "a.key")


def test_a_key_in_use_is_never_replaced(tmp_path: Path):
    made = create_curve_keys(tmp_path / "a.secret", tmp_path / "a.key")
    with pytest.raises(ConfigurationError, match="exists already"):
        create_curve_keys(tmp_path / "a.secret", tmp_path / "a.key")
    assert load_curve_keys(tmp_path / "a.secret").secret == made.secret


def test_a_signature_is_verified_by_the_public_file(tmp_path: Path):
    create_release_keys(tmp_path / "r.secret", tmp_path / "r.key")
    signature = load_release_secret(tmp_path / "r.secret").sign(b"digest")
    load_release_public(tmp_path / "r.key").verify(signature, b"digest")


def test_writing_over_a_file_leaves_no_other_behind(tmp_path: Path):
    for content in (b"old", b"new"):
        write_over(tmp_path / "file", content, mode=0o644)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_file_system_that_syncs_no_folder_is_no_error():
    sync_folder(Path("/proc"))  # fsync says EINVAL there


def test_what_a_killed_process_left_half_written_goes_with_the_next_write(tmp_path: Path):
    left, young = abandoned(tmp_path, "release-7.gfrel")
    other = tmp_path / ".vimrc.partial"
    other.write_bytes(b"somebody's")
    os.utime(other, (0, 0))
    write_over(tmp_path / "release-8.gfrel", b"whole", mode=0o644)
    assert not left.exists()
    assert young.exists(), "another process may be writing it"
    assert other.exists()


def abandoned(folder: Path, name: str) -> tuple[Path, Path]:
    """Have two processes die before they have renamed what they wrote; one did so long ago."""
    script = (
        "import os, pathlib, signal, sys\n"
        "from protocol.key_files import write_over\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_over(pathlib.Path(sys.argv[1]), b'half', mode=0o644)\n"
    )
    for _ in range(2):
        command = [sys.executable, "-c", script, str(folder / name)]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    left, young = folder.glob(f".{name}.*")
    os.utime(left, (0, 0))
    return left, young
