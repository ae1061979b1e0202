"""A port of our own: who may have it, what it waits for, and what becomes of a pulled cable."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from protocol.errors import ConfigurationError, NoAnswerError, PortGoneError
from robot_agent.serial_bus.feetech import FeetechBus
from robot_agent.serial_bus.port import SerialPort
from tests.emulators.feetech_servos import FeetechLine, FeetechServo
from tests.emulators.pty_port import PtyPort
from tests.waiting import PATIENCE_S, wait_until

BAUD = 1_000_000
SHORT_S = 0.2
"""For answers that never come."""


class Whatever:
    """Collects bytes until there are ``count``."""

    def __init__(self, count: int) -> None:
        self.data = b""
        self._count = count

    def feed(self, data: bytes) -> bool:
        self.data += data
        return len(self.data) >= self._count


class Device:
    """Answers as ``answers`` says; says ``unasked`` once unasked, and ``babble`` on and on."""

    def __init__(self) -> None:
        self.answers: dict[bytes, bytes] = {}
        self.unasked = b""
        self.babble = b""
        self.received = b""

    def receive(self, data: bytes, now_s: float) -> bytes:
        self.received += data
        return self.answers.get(data, b"")

    def tick(self, now_s: float) -> bytes:
        said, self.unasked = self.unasked + self.babble, b""
        return said


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def cable(device: Device, tmp_path: Path) -> Iterator[PtyPort]:
    with PtyPort(device, tmp_path / "port") as cable:
        yield cable


@pytest.fixture
def port(cable: PtyPort) -> Iterator[SerialPort]:
    port = SerialPort(cable.path, baud=BAUD)
    yield port
    port.close()


def _ask(
    port: SerialPort, request: bytes, count: int, within_s: float = PATIENCE_S
) -> bytes | None:
    reply = Whatever(count)
    return reply.data if port.exchange(request, reply, timeout_s=within_s) else None


def test_no_board_is_restarted_by_whoever_opens_its_port_next(cable: PtyPort, port: SerialPort):
    def hangs_up() -> bool:
        with cable.path.open("rb", buffering=0) as terminal:
            return bool(termios.tcgetattr(terminal)[2] & termios.HUPCL)

    with cable.path.open("rb", buffering=0) as terminal:
        attributes = termios.tcgetattr(terminal)
        attributes[2] |= termios.HUPCL
        termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    assert hangs_up()
    port.open()
    port.close()
    assert not hangs_up()


def test_an_answer_is_fed_until_it_is_whole(device: Device, port: SerialPort):
    device.answers[b"who?"] = b"me, the device"
    assert _ask(port, b"who?", 14) == b"me, the device"
    assert (port.counters.transactions, port.counters.timeouts) == (1, 0)


def test_an_answer_that_never_is_whole_ends_at_its_deadline(device: Device, port: SerialPort):
    device.answers[b"who?"] = b"me, the"
    assert _ask(port, b"who?", 14, SHORT_S) is None
    assert port.counters.timeouts == 1


def test_what_has_come_is_heard_however_little_time_there_is(device: Device, port: SerialPort):
    port.open()
    device.unasked = b"!"
    wait_until(lambda: port._serial.in_waiting == 1, "it has come")
    assert port.listen(Whatever(1), timeout_s=0.0)


def test_the_rest_of_a_late_answer_is_not_taken_for_the_next_one(device: Device, port: SerialPort):
    assert _ask(port, b"first", 5, SHORT_S) is None
    device.unasked = b"late!"
    device.answers[b"second"] = b"2nd"
    wait_until(lambda: port._serial.in_waiting == 5, "it has come")
    assert _ask(port, b"second", 3) == b"2nd"
    assert port.counters.garbage_bytes == 5


def test_a_device_that_babbles_on_and_on_ends_no_deadline(device: Device, port: SerialPort):
    device.babble = b"\xff\xff\x01\xf0"
    bus = FeetechBus(port, reply_timeout_s=0.05)
    with pytest.raises(NoAnswerError, match="servo 1 did not answer in 3 tries"):
        bus.read(1, 42, 2)
    assert bus.counters.timeouts == 3
    assert bus.counters.garbage_bytes > 0


def test_an_adapter_that_echoes_is_no_trouble(tmp_path: Path):
    line = FeetechLine([FeetechServo(servo_id=1), FeetechServo(servo_id=2)], echoes=True)
    with PtyPort(line, tmp_path / "bus") as cable:
        port = SerialPort(cable.path, baud=BAUD)
        bus = FeetechBus(port, reply_timeout_s=PATIENCE_S)
        for _ in range(3):
            bus.sync_write(42, {1: b"\x01\x02", 2: b"\x03\x04"})
            packets = bus.sync_read([1, 2], 42, 2)
            assert [p.parameters for p in packets.values()] == [b"\x01\x02", b"\x03\x04"]
        with pytest.raises(NoAnswerError):
            FeetechBus(port, reply_timeout_s=SHORT_S).read(3, 42, 2)
        assert port.counters.retries == 2
        bus.close()


def test_a_pulled_cable_costs_one_call_and_the_port_opens_again_when_it_is_back(
    device: Device, cable: PtyPort, port: SerialPort
):
    device.answers[b"?"] = b"!"
    assert _ask(port, b"?", 1) == b"!"
    cable.unplug()
    with pytest.raises(PortGoneError, match=r"port is gone .*check cable and adapter"):
        _ask(port, b"?", 1)
    cable.plug()
    assert _ask(port, b"?", 1) == b"!"
    assert port.counters.reopened == 1


def test_a_cable_pulled_in_the_middle_of_an_answer_is_known_at_once(
    device: Device, cable: PtyPort, port: SerialPort
):
    port.open()

    def pull() -> None:
        wait_until(lambda: bool(device.received), "it is asked")
        cable.unplug()

    puller = threading.Thread(target=pull)
    puller.start()
    with pytest.raises(PortGoneError):
        port.exchange(b"?", Whatever(1), timeout_s=PATIENCE_S)
    puller.join()


def test_a_port_that_stays_away_is_looked_for_ever_more_rarely(cable: PtyPort):
    now_s = 0.0
    port = SerialPort(cable.path, baud=BAUD, monotonic_s=lambda: now_s)
    port.open()
    cable.unplug()
    looked_s = []
    while now_s < 10.0:
        with pytest.raises(PortGoneError) as raised:
            port.send(b"?")
        if "looked for again" not in str(raised.value):
            looked_s.append(now_s)
        now_s += 0.01
    gaps_s = [round(later - earlier, 1) for earlier, later in pairwise(looked_s[1:])]
    assert gaps_s[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    cable.plug()
    now_s += 2.0
    port.send(b"?")
    port.close()


def test_a_second_process_on_the_port_is_refused_until_the_first_is_gone(
    cable: PtyPort, port: SerialPort
):
    script = (
        "import sys; from robot_agent.serial_bus.port import SerialPort\n"
        f"port = SerialPort({str(cable.path)!r}, baud={BAUD}); port.open()\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(ConfigurationError, match="is another agent running"):
            port.open()
        other.kill()
        other.wait()
    port.open()


def test_a_port_that_another_program_took_while_the_cable_was_out_is_waited_for(
    device: Device, cable: PtyPort
):
    now_s = 0.0
    port = SerialPort(cable.path, baud=BAUD, monotonic_s=lambda: now_s)
    device.answers[b"?"] = b"!"
    assert _ask(port, b"?", 1) == b"!"
    cable.unplug()
    with pytest.raises(PortGoneError):
        _ask(port, b"?", 1)
    cable.plug()
    with cable.path.open("rb", buffering=0) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for _ in range(2):
            now_s += 2.0
            with pytest.raises(PortGoneError, match="another process has this port"):
                _ask(port, b"?", 1)
        with pytest.raises(PortGoneError, match=r"another process .* again in 0\.2 s"):
            _ask(port, b"?", 1)
    now_s += 2.0
    assert _ask(port, b"?", 1) == b"!"
    assert port.counters.reopened == 1
    port.close()


def test_a_port_that_was_closed_opens_again_when_it_is_used(device: Device, port: SerialPort):
    device.answers[b"?"] = b"!"
    port.open()
    port.close()
    port.close()
    assert _ask(port, b"?", 1) == b"!"


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("absent", PortGoneError, "there is no such port: is the cable in"),
        ("file", ConfigurationError, "cannot be used as a serial port"),
    ],
)
def test_what_is_no_port_is_refused_in_words(
    tmp_path: Path, name: str, error: type[Exception], words: str
):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(error, match=words):
        SerialPort(tmp_path / name, baud=BAUD).open()


def test_a_baud_rate_that_cannot_be_is_refused(cable: PtyPort):
    with pytest.raises(ConfigurationError, match="-5 baud"):
        SerialPort(cable.path, baud=-5).open()


def test_threads_take_turns(tmp_path: Path):
    line = FeetechLine([FeetechServo(servo_id=one) for one in range(1, 5)])
    with PtyPort(line, tmp_path / "bus") as cable:
        bus = FeetechBus(SerialPort(cable.path, baud=BAUD), reply_timeout_s=PATIENCE_S)
        seen: list[set[bytes]] = []

        def read(servo_id: int) -> None:
            seen.append({bus.read(servo_id, 5, 1).parameters for _ in range(50)})

        threads = [threading.Thread(target=read, args=(one,)) for one in line.servos]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        bus.close()
    assert sorted(seen, key=min) == [{bytes((one,))} for one in line.servos]
    assert bus.counters.retries == 0
