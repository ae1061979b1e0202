"""An operator stops robots from afar, and what becomes of the order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from fleet.robot_stops import StopOrder, StopOutcome
from learner.ingestion.gateway import Gateway
from learner.ingestion.stop_orders import StopOrders as LearnersOrders
from protocol.codec import encode_message
from protocol.errors import ConfigurationError, RejectedMessageError, TransientError
from protocol.messages import Refusal, RobotStatus, Stop, StopConfirmation, StopReply, StopRequest
from robot_agent.safety.emergency_stop import EmergencyStop
from robot_agent.safety.stop_latch import StopLatch
from robot_agent.safety.stop_orders import StopOrders
from tests.delivery_site import DeliverySite, make_heartbeat
from tests.disks import ext4_disk, frozen
from tests.free_ports import free_port
from tests.peer import Peer
from tests.robot_agent.drawn_robot import DrawnRobot
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def site(site: DeliverySite) -> DeliverySite:
    site.enrol("operator", role="operator")
    for name in ("arm", "leg"):
        site.enrol(name)
    return site


class HeldRobot(DrawnRobot):
    stops = 0
    is_answering = True

    def stop(self) -> None:
        if not self.is_answering:
            raise ConfigurationError("/dev/ttyACM0: another program has it")
        self.stops += 1


@contextmanager
def agent(site: DeliverySite, name: str, gateways: Sequence[str] = ()) -> Iterator[EmergencyStop]:
    """Run what an agent obeys orders with: its uplink, its orders, its emergency stop."""
    state = site.outbox_folder(name)
    emergency = EmergencyStop(name, StopLatch(state))
    with closing(site.outbox(name)) as outbox, emergency:
        obey = StopOrders(state, emergency).obey
        uplink = site.uplink(name, outbox, obey_stop=obey, gateways=gateways)
        uplink.start()
        try:
            wait_until(lambda: uplink.stats.is_welcome, "the robot is connected")
            yield emergency
        finally:
            uplink.close(0.0)


@contextmanager
def another_learner(folder: Path, site: DeliverySite) -> Iterator[str]:
    """Run a gateway with the same key that knows the operator and no robot; return where."""
    folder.mkdir()
    (folder / "registry").mkdir()
    (folder / "keys").symlink_to(site.folder / "keys")
    (folder / "endpoint").write_text(f"tcp://127.0.0.1:{free_port()}")
    strict = DeliverySite(folder)
    strict.registry.enrol("operator", site.keys_of("operator").public.decode(), "operator")
    with strict.running_gateway():
        yield strict.endpoint


def order_to(site: DeliverySite, robot_id: str, *endpoints: str) -> StopOrder:
    """Return an order to stop, for these gateways or for the site's."""
    keys, public = site.keys_of("operator"), site.server_public()
    return StopOrder(endpoints or [site.endpoint], keys, public, robot_id=robot_id)


def given(order: StopOrder, within_s: float = PATIENCE_S) -> StopOutcome:
    """Give an order, again and again until a gateway takes it; return how far it came."""
    outcomes: list[StopOutcome] = []

    def is_taken() -> bool:
        with suppress(TransientError):
            outcomes.append(order.give(within_s))
        return bool(outcomes)

    wait_until(is_taken, "a gateway takes the order")
    return outcomes[0]


def order_stop(site: DeliverySite, robot_id: str, within_s: float = PATIENCE_S) -> StopOutcome:
    return given(order_to(site, robot_id), within_s)


def status_of(gateway: Gateway, name: str) -> RobotStatus:
    return next(robot for robot in gateway.status().robots if robot.robot_id == name)


def resume(site: DeliverySite, name: str) -> None:
    latch = StopLatch(site.outbox_folder(name))
    latch.release(latch.stops())


def test_a_connected_robot_stops_and_says_so(site: DeliverySite, gateway: Gateway):
    robot = HeldRobot()
    with agent(site, "arm") as emergency:
        emergency.protect(robot)
        outcome = order_stop(site, "arm")
    assert outcome.is_done
    assert robot.stops == 1
    assert StopLatch(site.outbox_folder("arm")).read().why == "by operator, over the learner"
    assert status_of(gateway, "arm").stop.confirmed_at_ns > 0
    assert status_of(gateway, "leg").stop is None


def test_a_robot_that_cannot_be_stopped_says_nothing_until_it_holds_still(
    site: DeliverySite, gateway: Gateway
):
    robot = HeldRobot()
    robot.is_answering = False
    with agent(site, "arm") as emergency:
        emergency.protect(robot)
        assert not order_stop(site, "arm", within_s=0.5).is_done
        wait_until(lambda: emergency.pulled is not None, "its agent heard of it")
        robot.is_answering = True
        wait_until(lambda: robot.stops == 1, "it is stopped at last")
        wait_until(lambda: status_of(gateway, "arm").stop.confirmed_at_ns > 0, "it says so")
    assert robot.stops == 1


def test_a_robot_that_is_away_stops_when_it_connects_also_to_a_learner_that_was_restarted(
    site: DeliverySite,
):
    with site.running_gateway():
        outcome = order_stop(site, "")
    assert [robot.robot_id for robot in outcome.robots] == ["arm", "leg"]
    assert not outcome.is_done
    assert "stops when it connects" in outcome.robots[0].trouble
    with site.running_gateway(), agent(site, "arm") as emergency:
        wait_until(lambda: emergency.pulled is not None, "it stops")


def test_a_robot_that_its_agent_could_not_stop_goes_on_once_a_person_resumed_it(
    site: DeliverySite, gateway: Gateway
):
    robot = HeldRobot()
    robot.is_answering = False
    with agent(site, "arm") as emergency:
        emergency.protect(robot)
        assert not order_stop(site, "arm", within_s=0.5).is_done
        wait_until(lambda: emergency.pulled is not None, "its agent heard of it")
        emergency.leave()  # to its guard, as an agent does that ends
    resume(site, "arm")
    with agent(site, "arm") as emergency:
        wait_until(lambda: status_of(gateway, "arm").stop is None, "the order is settled")
        assert emergency.pulled is None


def test_a_robot_that_a_person_resumed_goes_on_and_the_order_is_forgotten(
    site: DeliverySite, gateway: Gateway
):
    with agent(site, "arm"):
        assert order_stop(site, "arm").is_done
    resume(site, "arm")
    with agent(site, "arm") as emergency:
        wait_until(lambda: status_of(gateway, "arm").stop is None, "the order is settled")
        assert emergency.pulled is None
        assert order_stop(site, "arm").is_done  # another order counts again
        assert emergency.pulled is not None


def test_a_robot_that_holds_still_already_is_not_doubted_when_all_are_stopped(
    site: DeliverySite, gateway: Gateway
):
    with agent(site, "arm"):
        assert order_stop(site, "arm").is_done
    arm, leg = order_stop(site, "").robots
    assert (arm.robot_id, arm.trouble) == ("arm", "")
    assert arm.confirmed_at_ns > 0
    assert leg.confirmed_at_ns == 0
    resume(site, "arm")
    with agent(site, "arm") as emergency:
        wait_until(lambda: emergency.pulled is not None, "the later order stops it all the same")


def test_an_order_that_is_settled_stops_nobody_when_it_is_given_again(
    site: DeliverySite, gateway: Gateway
):
    order = order_to(site, "arm")
    with agent(site, "arm"):
        assert given(order).is_done
    resume(site, "arm")
    with agent(site, "arm") as emergency:
        wait_until(lambda: status_of(gateway, "arm").stop is None, "the order is settled")
        # To give it again is to ask how it went.
        assert given(order).is_done
        assert status_of(gateway, "arm").stop is None
        assert emergency.pulled is None


def test_nobody_but_an_operator_stops_anybody(site: DeliverySite, gateway: Gateway):
    peer = Peer(site, site.keys_of("arm"))
    peer.hello("arm")
    answer = peer.ask(encode_message(StopRequest(order_id=os.urandom(16), robot_id="leg")))
    peer.close()
    assert isinstance(answer, Refusal)
    assert answer.code == "not-an-operator"
    assert status_of(gateway, "leg").stop is None


def test_a_robot_that_is_not_enrolled_is_named_with_those_that_are(
    site: DeliverySite, gateway: Gateway
):
    with pytest.raises(RejectedMessageError, match=r"'arms' is not an enrolled robot.*arm, leg"):
        order_stop(site, "arms")


@pytest.mark.usefixtures("long_sessions")
def test_an_older_agent_is_not_told_what_it_does_not_know(site: DeliverySite, gateway: Gateway):
    peer = Peer(site, site.keys_of("arm"))
    peer.hello("arm", wire_version=4)
    outcome = order_stop(site, "arm")
    assert "speaks wire version 4" in outcome.robots[0].trouble
    peer.send(encode_message(make_heartbeat()))
    # The next answer is to the next question, not a stop.
    assert not isinstance(peer.hello("arm", wire_version=4), Stop)
    peer.close()


@pytest.mark.usefixtures("long_sessions")
def test_a_robots_word_counts_for_its_own_order_alone(site: DeliverySite, gateway: Gateway):
    peer = Peer(site, site.keys_of("arm"))
    peer.hello("arm")
    assert not order_stop(site, "leg").is_done
    assert not order_stop(site, "arm", within_s=0.5).is_done
    stop = peer.receive()
    assert isinstance(stop, Stop)
    peer.send(encode_message(StopConfirmation(order_id=os.urandom(16))))
    again = peer.ask(encode_message(make_heartbeat()))
    assert again == stop
    peer.send(encode_message(StopConfirmation(order_id=stop.order_id)))
    wait_until(lambda: status_of(gateway, "arm").stop.confirmed_at_ns > 0, "it has stopped")
    assert status_of(gateway, "leg").stop.confirmed_at_ns == 0
    peer.close()


def test_a_gateway_that_is_gone_is_named_and_the_others_are_told(
    site: DeliverySite, gateway: Gateway
):
    gone = f"tcp://127.0.0.1:{free_port()}"
    order = order_to(site, "arm", gone, site.endpoint)
    with agent(site, "arm"):
        wait_until(lambda: given(order, 1.0).is_done, "the robot stops")
        assert gone in given(order, 1.0).untold_gateways
        with pytest.raises(TransientError, match="nobody was stopped; go to the robots"):
            order_to(site, "arm", gone).give(0.5)


def test_a_gateway_that_refuses_hides_nothing_of_those_that_obey(
    site: DeliverySite, gateway: Gateway, tmp_path: Path
):
    with another_learner(tmp_path / "other", site) as strict, agent(site, "arm") as emergency:
        outcome = given(order_to(site, "arm", strict, site.endpoint))
        assert emergency.pulled is not None
        assert outcome.is_done
        assert "'arm' is not an enrolled robot" in outcome.untold_gateways[strict]


def test_orders_that_cannot_be_read_keep_the_learner_from_starting(site: DeliverySite):
    with site.running_gateway():
        order_stop(site, "arm")
    (site.store / "stops.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"stops\.json.*mend the file"):
        site.gateway()


def test_every_reply_names_who_ordered_it(site: DeliverySite, gateway: Gateway):
    peer = Peer(site, site.keys_of("operator"))
    reply = peer.ask(encode_message(StopRequest(order_id=os.urandom(16))))
    assert isinstance(reply, StopReply)
    assert {robot.by for robot in reply.robots} == {"operator"}
    peer.close()


@pytest.mark.usefixtures("long_sessions")
def test_a_connected_robot_is_told_before_the_disk_has_the_order(
    site: DeliverySite, tmp_path: Path
):
    request = StopRequest(order_id=os.urandom(16), robot_id="arm")
    with ext4_disk(tmp_path / "image", site.store) as disk, site.running_gateway():
        arm, operator = (Peer(site, site.keys_of(name)) for name in ("arm", "operator"))
        arm.hello("arm")
        with frozen(disk):
            operator.send(encode_message(request))
            assert arm.receive() == Stop(order_id=request.order_id, by="operator")
            assert not (site.store / "stops.json").exists()
        reply = operator.receive()
        assert isinstance(reply, StopReply)
        assert request.order_id in {
            order.order_id for order in LearnersOrders(site.store / "stops.json").book["arm"]
        }
        arm.close()
        operator.close()


def test_an_order_that_the_disk_does_not_take_stops_robots_and_is_said(
    site: DeliverySite, gateway: Gateway
):
    (site.store / "stops.json").mkdir()  # in the place of the file
    with agent(site, "arm"):
        outcome = order_stop(site, "")
        told = {robot.robot_id: robot for robot in outcome.robots}
        assert told["arm"].confirmed_at_ns > 0
    assert "not if the learner is started anew before: file " in told["leg"].trouble
    assert "orders to stop robots are not kept on disk" in gateway.status().warnings[-1]
    (site.store / "stops.json").rmdir()
    order_stop(site, "leg")
    assert gateway.status().warnings == []
    assert LearnersOrders(site.store / "stops.json").of("leg") is not None
