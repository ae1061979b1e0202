"""The learner's keys as a robot knows them, over restarts."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.key_notice import notice_beside, sign_key_notice, write_key_notice
from protocol.security import write_curve_public
from robot_agent.learner_keys import LearnerKeys

SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(b"a key for tests, known to all.. ")
OLD, NEXT, THIRD = (zmq.curve_keypair()[0] for _ in range(3))


def keys(folder: Path, given: bytes = OLD) -> LearnerKeys:
    return LearnerKeys(given, verify_key=SIGNING_KEY.public_key(), state_folder=folder)


def told(folder: Path, key: bytes = NEXT) -> LearnerKeys:
    found = keys(folder)
    found.take(sign_key_notice(key, SIGNING_KEY))
    return found


def started_with_a_bundle_that_tells_of_the_next_key(folder: Path) -> LearnerKeys:
    public = folder / "bundle" / "server.public"
    if not public.exists():
        write_curve_public(public, OLD)
        write_key_notice(notice_beside(public), sign_key_notice(NEXT, SIGNING_KEY))
    return LearnerKeys.of_bundle(
        public, verify_key=SIGNING_KEY.public_key(), state_folder=folder / "state"
    )


def test_the_notice_in_a_bundle_is_taken(tmp_path: Path):
    assert started_with_a_bundle_that_tells_of_the_next_key(tmp_path).next == NEXT.decode()


def test_the_notice_in_a_bundle_does_not_outdo_a_later_one_after_a_restart(tmp_path: Path):
    first = started_with_a_bundle_that_tells_of_the_next_key(tmp_path)
    first.take(sign_key_notice(THIRD, SIGNING_KEY))
    again = started_with_a_bundle_that_tells_of_the_next_key(tmp_path)
    assert (again.in_use, again.next) == (OLD, THIRD.decode())


def test_the_notice_in_a_bundle_does_not_bring_back_a_key_that_was_changed_since(tmp_path: Path):
    first = started_with_a_bundle_that_tells_of_the_next_key(tmp_path)
    first.worked(NEXT)
    first.take(sign_key_notice(THIRD, SIGNING_KEY))
    first.worked(THIRD)
    again = started_with_a_bundle_that_tells_of_the_next_key(tmp_path)
    assert (again.in_use, again.next) == (THIRD, "")


def test_without_a_notice_there_is_no_other_key(tmp_path: Path):
    assert keys(tmp_path).other_than(OLD) == OLD


def test_the_next_key_is_kept_over_a_restart_and_tried_second(tmp_path: Path):
    told(tmp_path)
    again = keys(tmp_path)
    assert (again.in_use, again.next) == (OLD, NEXT.decode())
    assert again.other_than(OLD) == NEXT
    assert again.other_than(NEXT) == OLD


def test_once_the_next_key_worked_the_old_one_is_worth_nothing(tmp_path: Path):
    told(tmp_path).worked(NEXT)
    again = keys(tmp_path)
    assert (again.in_use, again.next) == (NEXT, "")
    assert again.other_than(NEXT) == NEXT


def test_the_key_in_use_goes_on_working_while_another_is_known(tmp_path: Path):
    found = told(tmp_path)
    found.worked(OLD)
    assert found.next == NEXT.decode()


def test_a_new_bundle_counts_more_than_what_was_learned(tmp_path: Path):
    told(tmp_path).worked(NEXT)
    assert keys(tmp_path, THIRD).in_use == THIRD


def test_a_later_notice_takes_the_place_of_an_earlier_one(tmp_path: Path):
    found = told(tmp_path)
    found.take(sign_key_notice(THIRD, SIGNING_KEY))
    assert found.other_than(OLD) == THIRD


def test_a_damaged_file_is_said_and_the_bundle_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    told(tmp_path).worked(NEXT)
    (tmp_path / "learner-keys.json").write_text("{")
    assert keys(tmp_path).in_use == OLD
    assert "ignored" in caplog.text


def test_a_key_that_cannot_be_kept_is_not_confirmed(tmp_path: Path):
    (tmp_path / "file").write_text("where the state folder should be")
    found = told(tmp_path / "file")
    assert found.next == ""
    assert "cannot be kept" in found.trouble


def test_a_key_that_cannot_be_kept_is_said_once_and_no_longer_once_it_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("where the state folder should be")
    found = told(tmp_path / "file")
    found.take(sign_key_notice(NEXT, SIGNING_KEY))
    assert len([line for line in caplog.messages if "cannot be kept" in line]) == 1
    (tmp_path / "file").unlink()
    found.take(sign_key_notice(NEXT, SIGNING_KEY))
    assert (found.next, found.trouble) == (NEXT.decode(), "")


def test_a_forged_notice_is_forgotten_once_a_good_one_comes(tmp_path: Path):
    found = told(tmp_path)
    found.take(sign_key_notice(THIRD, Ed25519PrivateKey.generate()))
    assert "forged" in found.trouble
    found.take(sign_key_notice(NEXT, SIGNING_KEY))
    assert found.trouble == ""


def test_the_remedy_names_the_file_that_outlives_a_copied_key(tmp_path: Path):
    found = told(tmp_path)
    found.worked(NEXT)
    assert str(tmp_path / "learner-keys.json") in found.remedy
    assert "remove" not in keys(tmp_path, THIRD).remedy
