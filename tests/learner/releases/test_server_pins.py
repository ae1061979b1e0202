"""The operator's list and pins, as the release server answers them."""

from __future__ import annotations

import msgspec
import pytest

from protocol.codec import encode_message
from protocol.errors import ConfigurationError
from protocol.messages import (
    Chunk,
    ChunkRequest,
    Refusal,
    ReleaseList,
    ReleaseListRequest,
    ReleasePin,
    ReleaseSubscription,
)
from tests.learner.releases.served_fleet import Fleet, ask, receive
from tests.releases import make_release


def test_the_operator_lists_and_pins_and_a_robot_may_not(fleet: Fleet):
    server = fleet.server()
    for version in (1, 2):
        server.publish(make_release(version, metrics={"step": 10.0 * version}))
    server.catalogue.withhold("worse than before")
    operator = fleet.operator(server)

    listing, _ = ask(operator, ReleasePin(version=1, robot_id="robot-1"))

    assert isinstance(listing, ReleaseList)
    assert [(entry.version, entry.trained_steps) for entry in listing.releases] == [
        (2, 20),
        (1, 10),
    ]
    assert (listing.current, listing.pinned) == (2, {"robot-1": 1})
    assert (listing.withheld, listing.warnings) == (["worse than before"], [])
    for request in (ReleasePin(version=2), ReleaseListRequest()):
        refusal, _ = ask(fleet.robot(server), request)
        assert isinstance(refusal, Refusal)
        assert refusal.code == "not-an-operator"
        assert "the key of robot-1" in refusal.reason
    assert server.catalogue.pins() == {"robot-1": 1}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ReleasePin(version=7), "release 7 is not on the learner's disk, or damaged; there: 2, 1"),
        (ReleasePin(version=1, robot_id="robot-9"), "not an enrolled robot; enrolled: robot-1"),
        (ReleasePin(version=1, robot_id="operator"), "not an enrolled robot"),
    ],
)
def test_what_cannot_be_pinned_is_said(fleet: Fleet, request_: ReleasePin, reason: str):
    server = fleet.server()
    for version in (1, 2):
        server.publish(make_release(version))
    server.catalogue.pin("", 1)
    refusal, _ = ask(fleet.operator(server), request_)
    assert isinstance(refusal, Refusal)
    assert reason in refusal.reason
    assert server.catalogue.pins() == {"": 1}


def test_a_pin_that_cannot_be_written_is_refused_and_changes_nothing(fleet: Fleet):
    server = fleet.server()
    for version in (1, 2):
        server.publish(make_release(version))
    (fleet.folder / "releases" / "pins.json").mkdir()
    refusal, _ = ask(fleet.operator(server), ReleasePin(version=1))
    assert isinstance(refusal, Refusal)
    assert "pins.json cannot be written" in refusal.reason
    announcement, _ = ask(fleet.robot(server), ReleaseSubscription(have_version=0))
    assert announcement.version == 2


def test_damaged_pins_keep_a_server_from_starting_rather_than_unpin_the_fleet(fleet: Fleet):
    (fleet.folder / "releases").mkdir()
    (fleet.folder / "releases" / "pins.json").write_text('{"number": 3, "versions": {"": 1}')
    with pytest.raises(ConfigurationError, match=r"pins\.json.*mend the file, or remove it"):
        fleet.server()


def test_a_pinned_release_that_is_damaged_on_disk_is_named_and_not_announced(fleet: Fleet):
    server = fleet.server()
    for version in (1, 2):
        server.publish(make_release(version))
    ask(fleet.operator(server), ReleasePin(version=1))
    server.close()
    (fleet.folder / "releases" / "release-0000000001.gfrel").write_bytes(b"damaged")
    again = fleet.server()
    robot = fleet.robot(again)
    robot.send(encode_message(ReleaseSubscription(have_version=2)))

    listing, _ = ask(fleet.operator(again), ReleaseListRequest())

    assert (
        "the whole fleet is pinned to release 1, which is missing or damaged" in listing.warnings[0]
    )
    chunk, _ = ask(robot, ChunkRequest(version=2, offset=0, length=10))
    assert isinstance(chunk, Chunk)  # and no announcement before it


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_release_that_went_bad_since_it_was_listed_cannot_be_pinned(
    fleet: Fleet, content: bytes | None
):
    server = fleet.server()
    for version in (1, 2):
        server.publish(make_release(version))
    operator = fleet.operator(server)
    listing, _ = ask(operator, ReleaseListRequest())
    assert [entry.version for entry in listing.releases] == [2, 1]
    file = fleet.folder / "releases" / "release-0000000001.gfrel"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    refusal, _ = ask(operator, ReleasePin(version=1))
    assert isinstance(refusal, Refusal)
    assert "release 1 is not on the learner's disk, or damaged" in refusal.reason
    assert server.catalogue.pins() == {}


def test_asking_for_a_release_that_is_not_made_yet_is_no_damage(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
):
    server = fleet.server()
    operator = fleet.operator(server)
    assert isinstance(ask(operator, ReleasePin(version=1))[0], Refusal)
    assert not any("cannot be used" in said for said in caplog.messages)
    server.publish(make_release(1))
    assert ask(operator, ReleasePin(version=1))[0].pinned == {"": 1}


def test_a_robot_of_wire_version_one_is_served_but_cannot_be_sent_back_which_is_said(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
):
    server = fleet.server()
    for version in (1, 2, 3):
        server.publish(make_release(version))
    operator, robot = fleet.operator(server), fleet.robot(server)
    old = {"type": "release_subscription", "have_version": 3}
    robot.send(msgspec.msgpack.encode(old))
    receive(robot)

    listing, _ = ask(operator, ReleasePin(version=2, robot_id="robot-1"))

    assert "robot-1 has release 3 and cannot go back to 2" in listing.warnings[0]
    for _ in range(3):
        robot.send(msgspec.msgpack.encode(old))
    # One that has an older release yet is told as before, in words of its version.
    robot.send(msgspec.msgpack.encode(old | {"have_version": 1}))
    told = msgspec.msgpack.decode(robot.recv())
    assert (told["version"], "order" in told) == (2, False)
    said = [each for each in caplog.messages if "cannot go back from release 3 to 2" in each]
    assert len(said) == 1
