"""A cluster with two gateways on nodes of their own, and one of these nodes is gone for a while."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from fleet.operator import operator_connection
from fleet.status import StatusClient
from fleet.verification import verify
from protocol.codec import encode_episode
from protocol.errors import GraspFleetError
from protocol.messages import StatusReply
from tests.delivery_site import DeliverySite
from tests.episodes import make_episode
from tests.free_ports import free_port
from tests.integration.test_node_failures import Lab, Table, add_node
from tests.integration.test_node_failures import cluster as cluster  # a fixture
from tests.integration.test_node_failures import lab as lab
from tests.learner.spot_task import SIDE_PX, STORE_BYTES
from tests.waiting import wait_until

ROBOTS = 20
PLACES = ("ingestion-1", "ingestion-2")


def gateway_table(place: str) -> Table:
    return {
        "place": place,
        "bind": f"tcp://127.0.0.1:{free_port()}",
        "store": f"store-{place}",
        "max_store_bytes": STORE_BYTES,
    }


class Crowd:
    """Robots of one process: outboxes and uplinks like any agent's, an attempt now and then."""

    def __init__(self, lab: Lab, endpoint: str) -> None:
        self._site = DeliverySite(lab.folder.root)
        self._stopping = threading.Event()
        self.names = [f"arm-{number:02d}" for number in range(ROBOTS)]
        for name in self.names:
            self._site.enrol(name)
        self.outboxes = {name: self._site.outbox(name) for name in self.names}
        self._uplinks = {
            name: self._site.uplink(name, outbox, gateways=[endpoint])
            for name, outbox in self.outboxes.items()
        }
        self._thread = threading.Thread(target=self._grasp, daemon=True)

    def start(self) -> None:
        for uplink in self._uplinks.values():
            uplink.start()
        self._thread.start()

    @property
    def acked(self) -> int:
        return sum(outbox.counts().acked for outbox in self.outboxes.values())

    @property
    def written(self) -> int:
        return sum(outbox.counts().written for outbox in self.outboxes.values())

    def rest(self) -> None:
        """Make no more attempts; wait until all are delivered."""
        self._stopping.set()
        self._thread.join()
        wait_until(lambda: self.acked == self.written, "everything is delivered", 120.0)

    def close(self) -> None:
        self._stopping.set()
        for name, uplink in self._uplinks.items():
            uplink.close(0.0)
            self.outboxes[name].close()

    def _grasp(self) -> None:
        while not self._stopping.wait(0.2):
            for name, outbox in self.outboxes.items():
                seed = outbox.counts().written + 1
                outbox.put(encode_episode(make_episode(name, seed, steps=1, side_px=SIDE_PX)))
                self._uplinks[name].notify()


def status_of(lab: Lab, endpoints: list[str] | None = None) -> StatusReply | None:
    every, *keys = operator_connection(lab.folder)
    try:
        with StatusClient(endpoints or every, *keys) as client:
            return client.fetch(2.0)
    except GraspFleetError:
        return None


def answers(lab: Lab, gateway: Table) -> bool:
    return status_of(lab, [gateway["bind"]]) is not None


@contextmanager
def learner_of(lab: Lab, gateways: list[Table], *, ends_within_s: float = 60.0) -> Iterator[None]:
    process = lab.start(
        {
            "gateway": gateways,
            "releases": {"place": "rest"},
            "training": {"place": "rest", "first_after_attempts": 10**6},
        }
    )
    try:
        yield
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(ends_within_s) == 0, lab.log
        print(f"the learner ended after {time.monotonic() - began:.1f} s")
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled_when_the_node_of_one_of_two_gateways_dies(
    cluster: Cluster, lab: Lab, tmp_path: Path
):
    nodes = {place: add_node(cluster, place) for place in (*PLACES, "rest")}
    tables = [gateway_table(place) for place in PLACES]
    crowd: Crowd | None = None

    try:
        with learner_of(lab, tables):
            wait_until(lambda: all(answers(lab, one) for one in tables), "both gateways", 120.0)
            (tmp_path / "keys" / "learner.key").symlink_to("server.public")
            crowd = Crowd(lab, tables[0]["bind"])
            crowd.start()
            wait_until(lambda: crowd.acked > 10 * ROBOTS, "robots deliver", 120.0)
            status = status_of(lab)
            assert status is not None
            at_first = sum(robot.gateway == tables[0]["bind"] for robot in status.robots)
            print(f"{at_first} of {ROBOTS} robots are at the first gateway")

            before = {name: box.counts().acked for name, box in crowd.outboxes.items()}
            began = time.monotonic()
            cluster.remove_node(nodes[PLACES[0]], allow_graceful=False)
            wait_until(
                lambda: all(
                    box.counts().acked > before[name] + 10 for name, box in crowd.outboxes.items()
                ),
                "every robot goes on",
                120.0,
            )
            print(f"all go on {time.monotonic() - began:.1f} s after the kill")
            status = status_of(lab)
            assert status is not None
            assert {robot.gateway for robot in status.robots} == {tables[1]["bind"]}
            print(f"missing while the node is gone: {sum(one.missing for one in status.robots)}")

            nodes[PLACES[0]] = add_node(cluster, PLACES[0])
            wait_until(lambda: answers(lab, tables[0]), "it comes back", 120.0)
            crowd.rest()
            wait_until(lambda: is_all_counted(lab, crowd), "both stores together", 60.0)
            stores = lab.folder.stores
            wait_until(lambda: verify(stores, None).sound, "what both stores have leaves one", 90.0)
            written = crowd.written
    finally:
        if crowd is not None:
            crowd.close()
        for node in nodes.values():
            cluster.remove_node(node)
    found = verify(lab.folder.stores, None)
    counts = list(found.robots.values())
    print(f"written {written}, stored {sum(one.stored for one in counts)}")
    assert found.sound, found.findings()
    assert sum(one.stored for one in counts) == written
    assert all(one.missing == one.duplicated == 0 for one in counts)


def is_all_counted(lab: Lab, crowd: Crowd) -> bool:
    status = status_of(lab)
    return (
        status is not None
        and sum(robot.missing for robot in status.robots) == 0
        and sum(robot.stored for robot in status.robots) == crowd.written
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_learner_ends_in_order_without_the_parts_whose_nodes_are_away(cluster: Cluster, lab: Lab):
    nodes = {place: add_node(cluster, place) for place in (*PLACES, "rest")}
    tables = [gateway_table(place) for place in (*PLACES, "a-place-without-a-node")]
    try:
        # Far less than what a gateway that is there may take to store what it has received.
        with learner_of(lab, tables, ends_within_s=15.0):
            wait_until(lambda: all(answers(lab, one) for one in tables[:2]), "two of three", 120.0)
            cluster.remove_node(nodes.pop(PLACES[0]), allow_graceful=False)
            wait_until(lambda: lab.log.count("does not answer; robots") == 2, "both missed", 120.0)
            cluster.remove_node(nodes.pop("rest"), allow_graceful=False)
            cluster.wait_for_nodes()  # and no more: Ray notices late that they are gone
        assert lab.log.count("is not there to be stopped") == 3
    finally:
        for node in nodes.values():
            cluster.remove_node(node)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_learner_starts_although_the_node_of_a_gateway_has_just_died(cluster: Cluster, lab: Lab):
    nodes = {place: add_node(cluster, place) for place in (*PLACES, "rest")}
    tables = [gateway_table(place) for place in PLACES]
    try:
        cluster.remove_node(nodes.pop(PLACES[0]), allow_graceful=False)
        with learner_of(lab, tables):
            wait_until(lambda: answers(lab, tables[1]), "the other gateway", 120.0)
            # Ray lists the node for some seconds more; a slow learner finds it gone already.
            assert "is gone: what runs there" in lab.log or "no node is in place" in lab.log
            nodes[PLACES[0]] = add_node(cluster, PLACES[0])
            wait_until(lambda: answers(lab, tables[0]), "the gateway on its new node", 120.0)
    finally:
        for node in nodes.values():
            cluster.remove_node(node)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_learner_starts_with_the_gateways_whose_nodes_are_there(cluster: Cluster, lab: Lab):
    nodes = [add_node(cluster, place) for place in (PLACES[1], "rest")]
    cluster.wait_for_nodes()  # and no more: Ray notices late that those of other tests are gone
    tables = [gateway_table(place) for place in PLACES]
    try:
        with learner_of(lab, tables):
            wait_until(lambda: answers(lab, tables[1]), "the one whose node is there", 120.0)
            assert f"no node is in place {PLACES[0]}" in lab.log
            nodes.append(add_node(cluster, PLACES[0]))
            wait_until(lambda: answers(lab, tables[0]), "the other one", 120.0)
    finally:
        for node in nodes:
            cluster.remove_node(node)
