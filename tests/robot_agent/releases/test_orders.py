"""Going back to an older release: by the operator's signed order, and by nothing else."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from learner.releases.server import ReleaseServer
from protocol.messages import ReleaseAnnouncement, ReleaseOrder, SignedOrder
from protocol.release_order import sign_order
from tests.release_bench import Bench, take
from tests.releases import OTHER_KEY, SIGNING_KEY, make_release
from tests.waiting import wait_until


def serving(bench: Bench, *versions: int) -> ReleaseServer:
    server = bench.server()
    for version in versions:
        server.publish(make_release(version))
    return server


def test_the_whole_fleet_goes_back_and_on_again_as_the_operator_says(bench: Bench):
    server = serving(bench, 1, 2, 3)
    robots = [
        bench.receiver(server.endpoint),
        bench.receiver(server.endpoint, name="robot-2", keys=bench.enrol("robot-2")),
    ]
    for robot in robots:
        take(robot, 3)
    operator = bench.operator(server.endpoint)

    assert operator.pin(1).pinned == {"": 1}
    for robot in robots:
        take(robot, 1)
    server.publish(make_release(4))
    operator.pin(2)
    for robot in robots:
        take(robot, 2)

    assert operator.pin(0).pinned == {}
    for robot in robots:
        take(robot, 4)
        assert robot.refused == 0


def test_one_robot_goes_back_alone_and_its_own_pin_counts_more_than_the_fleets(bench: Bench):
    server = serving(bench, 1, 2, 3)
    alone = bench.receiver(server.endpoint)
    other = bench.receiver(server.endpoint, name="robot-2", keys=bench.enrol("robot-2"))
    take(alone, 3)
    take(other, 3)
    operator = bench.operator(server.endpoint)

    operator.pin(2, "robot-1")
    take(alone, 2)
    assert other.version == 3
    operator.pin(1)
    take(other, 1)
    assert alone.version == 2
    # What is left binds it again, though that is older, and was ordered before.
    operator.pin(0, "robot-1")
    take(alone, 1)
    operator.pin(0)
    take(alone, 3)
    take(other, 3)


def test_a_pinned_robot_stays_so_through_restarts_of_both_sides(bench: Bench):
    for version in (1, 2):
        serving(bench, version).close()
    process, endpoint = bench.server_process()
    robot = bench.receiver(endpoint)
    take(robot, 2)
    with bench.operator(endpoint) as operator:
        operator.pin(1)
    take(robot, 1)
    robot.close()
    process.send_signal(signal.SIGKILL)
    process.wait()

    while_away = bench.receiver(endpoint)
    assert take(while_away, 1).version == 1
    assert bench.server_process(endpoint)[1] == endpoint
    with bench.operator(endpoint) as operator:
        assert operator.fetch().pinned == {"": 1}
        assert while_away.version == 1
        operator.pin(0)
    take(while_away, 2)


def test_a_pinned_release_outlives_all_newer_ones_and_reaches_a_late_joiner(bench: Bench):
    server = serving(bench, 1)
    operator = bench.operator(server.endpoint)
    operator.pin(1)
    for version in range(2, 9):
        server.publish(make_release(version))

    assert [entry.version for entry in operator.fetch().releases] == [8, 7, 6, 1]
    take(bench.receiver(server.endpoint), 1)

    operator.pin(0)
    server.publish(make_release(9))
    assert [entry.version for entry in operator.fetch().releases] == [9, 8, 7]


@dataclass
class Rogue:
    """A server in wrong hands: it has the learner's CURVE key, but not the key for releases."""

    server: ReleaseServer
    honest: Callable[[str], ReleaseAnnouncement | None]

    @classmethod
    def takes_over(cls, server: ReleaseServer) -> Rogue:
        return cls(server, server.catalogue.offer)

    def announce(self, version: int, order: SignedOrder | None) -> None:
        entry = self.server.catalogue._folder.entry(version)
        offer = ReleaseAnnouncement(
            version=version,
            digest=bytes.fromhex(entry.digest),
            size_bytes=entry.size_bytes,
            order=order,
        )
        self.server.catalogue.offer = lambda _robot: offer
        self.server._wakeup.set()

    def order(
        self, version: int, *, key: Ed25519PrivateKey = SIGNING_KEY, **changes: object
    ) -> SignedOrder:
        entry = self.server.catalogue._folder.entry(version)
        order = ReleaseOrder(
            number=7, robot_id="robot-1", version=version, digest=bytes.fromhex(entry.digest)
        )
        return sign_order(msgspec.structs.replace(order, **changes), key)


FORGERIES: dict[str, tuple[Callable[[Rogue], SignedOrder | None], str]] = {
    "none": (lambda _: None, "no order of the operator"),
    "forged": (lambda rogue: rogue.order(1, key=OTHER_KEY), "not signed with the key"),
    "signed as something else": (
        lambda rogue: SignedOrder(
            order=rogue.order(1).order, signature=SIGNING_KEY.sign(rogue.order(1).order)
        ),
        "not signed with the key",
    ),
    "of another robot": (
        lambda rogue: rogue.order(1, robot_id="robot-2"),
        "is for robot-2, not robot-1",
    ),
    "of another release": (lambda rogue: rogue.order(2), "is for release 2"),
    "of another digest": (lambda rogue: rogue.order(1, digest=bytes(32)), "is for release 1"),
    "malformed": (
        lambda _: SignedOrder(
            order=b"\x93", signature=SIGNING_KEY.sign(b"graspfleet release order\0\x93")
        ),
        "malformed",
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_an_older_release_is_refused_when_its_order_is(bench: Bench, forgery: str):
    server = serving(bench, 1, 2, 3)
    robot = bench.receiver(server.endpoint)
    take(robot, 3)
    rogue = Rogue.takes_over(server)
    make, reason = FORGERIES[forgery]

    rogue.announce(1, make(rogue))
    wait_until(lambda: robot.refused == 1, "the older release is refused")

    assert "release 1: older than 3, which is in use" in robot.trouble
    assert reason in robot.trouble
    assert robot.take_newest() is None
    # The very same release, once it is truly ordered.
    rogue.announce(1, rogue.order(1))
    take(robot, 1)
    assert robot.trouble == ""


def test_an_order_that_was_followed_by_another_cannot_be_replayed(bench: Bench):
    server = serving(bench, 1, 2, 3)
    robot = bench.receiver(server.endpoint)
    take(robot, 3)
    operator = bench.operator(server.endpoint)
    operator.pin(1)
    take(robot, 1)
    old = server.catalogue.offer("robot-1")
    assert old is not None
    operator.pin(0)
    take(robot, 3)

    rogue = Rogue.takes_over(server)
    rogue.announce(1, old.order)
    wait_until(lambda: robot.refused == 1, "the old order is refused")
    assert "replayed" in robot.trouble
    robot.close()

    again = bench.receiver(server.endpoint)
    wait_until(lambda: again.refused == 1, "the old order is refused after a restart too")
    assert again.version == 3


@pytest.mark.parametrize("content", [b"", b"no order", msgspec.msgpack.encode({"number": 2**60})])
def test_a_damaged_last_order_on_disk_does_not_keep_a_robot_from_obeying(
    bench: Bench, content: bytes
):
    server = serving(bench, 1, 2)
    robot = bench.receiver(server.endpoint)
    take(robot, 2)
    robot.close()
    (bench.state() / "release-order").write_bytes(content)
    again = bench.receiver(server.endpoint)
    take(again, 2)

    bench.operator(server.endpoint).pin(1)

    take(again, 1)


def test_a_learner_that_lost_its_pins_still_gives_orders_that_count(bench: Bench):
    server = serving(bench, 1, 2)
    robot = bench.receiver(server.endpoint)
    operator = bench.operator(server.endpoint)
    take(robot, 2)
    operator.pin(1)
    take(robot, 1)
    server.close()
    (bench.folder / "releases" / "pins.json").unlink()
    again = bench.server(server.endpoint)
    take(robot, 2)

    bench.operator(again.endpoint).pin(1)

    take(robot, 1)
