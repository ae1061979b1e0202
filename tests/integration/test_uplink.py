"""The uplink against a real gateway: what happens when something is in the way."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from learner.ingestion.gateway import Gateway
from protocol.codec import encode_episode
from protocol.messages import Heartbeat
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox
from robot_agent.delivery.outbox_file import FILE_NAME
from tests.delivery_site import DeliverySite, make_heartbeat
from tests.disks import fill_disk, small_disk
from tests.episodes import make_episode
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def site(site: DeliverySite) -> DeliverySite:
    site.enrol("arm")
    return site


def put(outbox: Outbox, *seeds: int, robot: str = "arm") -> None:
    for seed in seeds:
        outbox.put(encode_episode(make_episode(robot, seed)))


class Wire:
    """A TCP connection through user space, with a hand on it."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._is_dead = False
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection; new ones may come."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def go_dead(self, is_dead: bool) -> None:
        """Swallow everything while connections stay open, like a lost radio link."""
        self._is_dead = is_dead

    def close(self) -> None:
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._to_port))
                self._ends += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if not self._is_dead:
                    target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire(site: DeliverySite, gateway: Gateway) -> Iterator[Wire]:
    """Robots of this test reach the gateway through a wire."""
    wire = Wire(int(gateway.endpoint.rsplit(":", 1)[1]))
    (site.folder / "endpoint").write_text(wire.endpoint)
    yield wire
    wire.close()


def test_a_connection_that_is_cut_again_and_again_stores_every_episode_once(
    site: DeliverySite, gateway: Gateway, outbox: Outbox, wire: Wire
):
    uplink = site.uplink("arm", outbox)
    uplink.start()
    for cut in range(5):
        put(outbox, *range(cut * 20, cut * 20 + 20))
        uplink.notify()
        wait_until(lambda cut=cut: outbox.counts().acked > cut * 20, "some acks")
        wire.cut()
    assert uplink.close(PATIENCE_S)
    (robot,) = gateway.status().robots
    assert (robot.stored, robot.missing, robot.conflicts) == (100, 0, 0)
    assert uplink.stats.reconnects >= 1
    assert outbox.counts().acked == 100


def test_acks_that_are_lost_with_the_radio_link_are_asked_for_again(
    site: DeliverySite,
    gateway: Gateway,
    outbox: Outbox,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("robot_agent.delivery.uplink.RESEND_AFTER_S", 0.5)
    uplink = site.uplink("arm", outbox)
    uplink.start()
    wait_until(lambda: uplink.stats.is_welcome, "connected")
    wire.go_dead(True)
    put(outbox, *range(10))
    uplink.notify()
    wait_until(lambda: uplink.stats.sent_episodes > 10, "sent more than once")
    wire.cut()
    wire.go_dead(False)
    assert uplink.close(PATIENCE_S)
    (robot,) = gateway.status().robots
    assert (robot.stored, robot.missing) == (10, 0)


def test_a_learner_that_is_not_there_is_said_in_words_and_nothing_is_lost(
    site: DeliverySite, outbox: Outbox
):
    put(outbox, 1, 2)
    uplink = site.uplink("arm", outbox)
    uplink.start()
    assert "does not answer" in uplink.trouble
    assert not uplink.close(0.1)
    assert outbox.counts().waiting == 2


def test_a_window_smaller_than_an_episode_lets_one_pass_at_a_time(
    site: DeliverySite, outbox: Outbox
):
    put(outbox, *range(10))
    with site.running_gateway(window_bytes=1):
        uplink = site.uplink("arm", outbox)
        uplink.start()
        assert uplink.close(PATIENCE_S)
    assert outbox.counts().acked == 10


def test_a_refused_episode_is_set_aside_and_the_others_arrive(
    site: DeliverySite, gateway: Gateway, outbox: Outbox
):
    put(outbox, 1)
    put(outbox, 2, robot="somebody-else")
    outbox.put(b"this is no episode")
    put(outbox, 3)
    uplink = site.uplink("arm", outbox)
    uplink.start()
    assert uplink.close(PATIENCE_S)
    counts = outbox.counts()
    assert (counts.acked, counts.refused, counts.waiting) == (2, 2, 0)
    (robot,) = gateway.status().robots
    assert (robot.stored, robot.tombstoned, robot.missing, robot.refused) == (2, 2, 0, 2)


def test_the_learner_is_told_which_episodes_a_full_outbox_dropped(
    site: DeliverySite, gateway: Gateway
):
    outbox = site.outbox("arm", OutboxConfig(max_bytes=40_000, when_full="drop-oldest"))
    put(outbox, *range(10))
    dropped = outbox.counts().dropped
    assert dropped > 3
    uplink = site.uplink("arm", outbox)
    uplink.start()
    assert uplink.close(PATIENCE_S)
    (robot,) = gateway.status().robots
    assert (robot.stored, robot.tombstoned, robot.missing) == (10 - dropped, dropped, 0)
    outbox.close()


def test_a_learner_whose_disk_is_full_refuses_in_words_and_takes_all_when_there_is_room(
    site: DeliverySite, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("robot_agent.delivery.uplink.PAUSE_S", 0.2)
    with small_disk(site.folder / "disk", megabytes=3) as disk:
        gateway = site.gateway(store=disk / "store")
        gateway.start()
        uplink = site.uplink("arm", outbox)
        uplink.start()
        wait_until(lambda: uplink.trouble == "", "connected")
        # In pieces that fit into what the ballast leaves when it goes.
        while "make room" not in uplink.trouble and outbox.counts().written < 400:
            put(outbox, *range(10))
            uplink.notify()
            wait_until(
                lambda: uplink.trouble != "" or outbox.counts().waiting == 0, "stored or refused"
            )
        assert "make room" in uplink.trouble
        assert gateway.refusals()["store-full"] >= 1
        stored = gateway.status().episodes_stored
        assert outbox.counts().waiting >= outbox.counts().written - stored > 0
        (disk / "ballast").unlink()
        assert uplink.close(PATIENCE_S)
        gateway.stop()
        assert outbox.counts().acked == outbox.counts().written


def test_a_robot_whose_disk_is_full_delivers_what_it_has(
    site: DeliverySite, gateway: Gateway, caplog: pytest.LogCaptureFixture
):
    with small_disk(site.folder / "disk", megabytes=3) as disk:
        outbox = Outbox(disk / "state", OutboxConfig())
        put(outbox, *range(30))
        outbox.put(b"this is no episode")
        outbox.close()
        fill_disk(disk / "logs", but_bytes=100_000)
        outbox = Outbox(disk / "state", OutboxConfig())
        fill_disk(disk / "more-logs")
        uplink = site.uplink("arm", outbox)
        uplink.start()
        wait_until(lambda: outbox.counts().acked == 30, "all are delivered")
        wait_until(lambda: "is not set aside: outbox" in caplog.text, "one is refused")
        assert not uplink.close(0.0)
        assert "begins anew" not in caplog.text
        (disk / "logs").unlink()
        uplink = site.uplink("arm", outbox)
        uplink.start()
        assert uplink.close(PATIENCE_S)
        (robot,) = gateway.status().robots
        assert (robot.stored, robot.tombstoned) == (30, 1)
        outbox.close()


def test_a_heartbeat_can_be_woken(
    site: DeliverySite, gateway: Gateway, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
):
    versions = iter(range(1000))
    beats: list[Heartbeat] = []

    def heartbeat() -> Heartbeat:
        beats.append(make_heartbeat(release_version=next(versions)))
        return beats[-1]

    monkeypatch.setattr("robot_agent.delivery.uplink.HEARTBEAT_S", 600.0)
    uplink = site.uplink("arm", outbox, heartbeat=heartbeat)
    uplink.start()
    wait_until(lambda: len(beats) == 1, "the first heartbeat")
    uplink.wake_heartbeat()
    wait_until(
        lambda: gateway.status().robots[0].release_version >= 1, "the second heartbeat arrives"
    )
    uplink.close(0.0)


def test_a_heartbeat_that_cannot_be_made_does_not_stop_deliveries(
    site: DeliverySite, gateway: Gateway, outbox: Outbox
):
    def heartbeat() -> Heartbeat:
        raise ZeroDivisionError

    put(outbox, 1)
    uplink = site.uplink("arm", outbox, heartbeat=heartbeat)
    uplink.start()
    wait_until(lambda: outbox.counts().acked == 1, "delivered all the same")
    assert uplink.stats.is_welcome
    uplink.close(0.0)


def test_heartbeats_that_the_learner_refuses_do_not_stop_deliveries(
    site: DeliverySite, gateway: Gateway, outbox: Outbox
):
    malformed = make_heartbeat(next_server_key="k" * 1000)
    uplink = site.uplink("arm", outbox, heartbeat=lambda: malformed)
    uplink.start()
    wait_until(lambda: gateway.refusals().get("malformed", 0) > 1, "refused more than once")
    assert "next_server_key" in uplink.trouble
    put(outbox, *range(5))
    uplink.notify()
    wait_until(lambda: outbox.counts().acked == 5, "delivered all the same")
    uplink.close(0.0)


def test_a_robot_that_is_revoked_while_it_delivers_only_asks_to_be_let_in(
    site: DeliverySite, gateway: Gateway, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("robot_agent.delivery.uplink.PAUSE_S", 0.1)
    uplink = site.uplink("arm", outbox)
    uplink.start()
    wait_until(lambda: uplink.stats.is_welcome, "connected")
    site.registry.revoke("arm")
    wait_until(lambda: not uplink.stats.is_welcome, "told that it is revoked")
    put(outbox, 1, 2)
    uplink.notify()
    refused = gateway.refusals()["not-enrolled"]
    wait_until(lambda: gateway.refusals()["not-enrolled"] > refused + 2, "it asks again")
    assert uplink.stats.sent_episodes == 0
    assert "revoked" in uplink.trouble
    uplink.close(0.0)


def test_thousands_of_sequences_that_were_given_up_one_by_one_are_told_in_seconds(
    site: DeliverySite, gateway: Gateway, outbox: Outbox
):
    with sqlite3.connect(site.outbox_folder("arm") / FILE_NAME) as database:
        database.execute("UPDATE outbox SET written = 5000, refused = 5000")
        rows = [(number, f"refused: number {number}") for number in range(1, 5001)]
        database.executemany("INSERT INTO tombstones VALUES (?, ?)", rows)
    uplink = site.uplink("arm", outbox)
    uplink.start()
    assert uplink.close(PATIENCE_S)
    (robot,) = gateway.status().robots
    assert (robot.tombstoned, robot.missing, robot.refused) == (5000, 0, 0)


def test_an_outbox_restored_from_a_backup_is_noticed(
    site: DeliverySite, gateway: Gateway, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    site.outbox("arm").close()
    shutil.copytree(site.outbox_folder("arm"), tmp_path / "backup")
    for seeds in ((1, 2), (3,)):
        outbox = site.outbox("arm")
        put(outbox, *seeds)
        uplink = site.uplink("arm", outbox)
        uplink.start()
        assert uplink.close(PATIENCE_S)
        outbox.close()
        shutil.rmtree(site.outbox_folder("arm"))
        shutil.copytree(tmp_path / "backup", site.outbox_folder("arm"))
    assert "restored from a backup" in caplog.text
    assert gateway.status().robots[0].conflicts == 1
