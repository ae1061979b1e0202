"""Lines of G-code controllers and gripper boards: what they are, and a device that misbehaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ConfigurationError, PortGoneError, RobotError
from robot_agent.serial_bus.line_format import (
    Line,
    LineKind,
    checksum,
    parse_line,
    sealed,
    unsealed,
)
from robot_agent.serial_bus.lines import MAX_LINE_BYTES, LinePort, LineReply
from robot_agent.serial_bus.port import SerialPort
from tests.emulators.pty_port import PtyPort

ascii_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("$25 ok", Line(kind=LineKind.OK, text="", number=25)),
        (
            "$7 ok X154.71 Y194.91 Z10.21",
            Line(kind=LineKind.OK, text="X154.71 Y194.91 Z10.21", number=7),
        ),
        ("ok", Line(kind=LineKind.OK, text="")),
        ("ok V1", Line(kind=LineKind.OK, text="V1")),
        ("$3 E22", Line(kind=LineKind.ERROR, text="E22", number=3)),
        ("E23 buffer full", Line(kind=LineKind.ERROR, text="E23 buffer full")),
        ("error:20", Line(kind=LineKind.ERROR, text="error:20")),
        ("Error:Printer halted.", Line(kind=LineKind.ERROR, text="Error:Printer halted.")),
        ("ALARM:1", Line(kind=LineKind.ALARM, text="1")),
        ("!!", Line(kind=LineKind.ALARM, text="")),
        ("@5 V0", Line(kind=LineKind.EVENT, text="@5 V0")),
        ("@3 X154.7 Y194.9 Z10.2", Line(kind=LineKind.EVENT, text="@3 X154.7 Y194.9 Z10.2")),
        ("X:10.00 Y:0.00 Z:5.00", Line(kind=LineKind.NOTE, text="X:10.00 Y:0.00 Z:5.00")),
        ("echo:busy: processing", Line(kind=LineKind.NOTE, text="echo:busy: processing")),
        ("okay", Line(kind=LineKind.NOTE, text="okay")),
        ("Extruder", Line(kind=LineKind.NOTE, text="Extruder")),
    ],
)
def test_lines_are_told_apart(text: str, line: Line):
    assert parse_line(text) == line


@given(ascii_text)
def test_what_was_sealed_is_unsealed(text: str):
    assert unsealed(sealed(text)) == text


@given(ascii_text, st.integers(0, 80), st.integers(0, 6))
def test_one_flipped_bit_breaks_the_seal(text: str, at: int, bit: int):
    data = bytearray(sealed(text).encode())
    data[at % len(data)] ^= 1 << bit
    damaged = data.decode()
    # The two digits read alike in both cases.
    assert unsealed(damaged) is None or damaged.upper() == sealed(text).upper()


def test_the_checksum_is_the_exclusive_or():
    assert checksum("") == 0
    assert sealed("#1 hello") == f"#1 hello*{0x23 ^ 0x31 ^ 0x20 ^ 0x68 ^ 0x65 ^ 0x6F:02X}"


@given(st.binary(max_size=2000), st.booleans(), st.sampled_from([None, 1, 12]))
def test_any_bytes_leave_the_parser_well(data: bytes, is_sealed: bool, number: int | None):
    reply = LineReply(number=number, is_sealed=is_sealed)
    found = reply.feed(data)
    assert found == (reply.answer is not None)
    assert len(reply.rest) <= MAX_LINE_BYTES
    assert 0 <= reply.garbage_bytes <= len(data)


@given(
    st.lists(st.integers(0, 40), max_size=5), st.binary(max_size=10).filter(lambda b: 10 not in b)
)
def test_an_answer_is_found_in_any_pieces_behind_events_and_late_answers(
    cuts: list[int], noise: bytes
):
    stream = b"\xfe" + noise + b"\n$11 ok V9\r\n@4 N0 V1\nnote\n$12 ok V1\r\n"
    ends = [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reply = LineReply(number=12, is_sealed=False)
    start = 0
    for end in ends:
        reply.feed(stream[start:end])
        start = end
    assert reply.answer is not None
    assert (reply.answer.kind, reply.answer.text) == (LineKind.OK, "V1")
    assert reply.answer.notes == ("note",)
    assert [line.text for line in reply.unasked] == ["@4 N0 V1"]


class Parrot:
    """A device that answers as the test has written."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.heard: list[str] = []
        self.unasked = b""
        self._buffer = b""

    def receive(self, data: bytes, now_s: float) -> bytes:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        answer = ""
        for line in lines:
            self.heard.append(line.decode())
            number, _, command = line.decode().partition(" ")
            template = self.answers.get(command, "$# ok")
            answer += template.replace("#", number[1:])
            answer += "\n" if template else ""
        return answer.encode()

    def tick(self, now_s: float) -> bytes:
        said, self.unasked = self.unasked, b""
        return said


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
def line(tmp_path: Path, parrot: Parrot) -> Iterator[PtyPort]:
    with PtyPort(parrot, tmp_path / "arm") as line:
        yield line


@pytest.fixture
def port(line: PtyPort) -> Iterator[SerialPort]:
    port = SerialPort(line.path, baud=115200)
    yield port
    port.close()


@pytest.fixture
def lines(port: SerialPort) -> LinePort:
    return LinePort(port, name="arm-1", is_numbered=True)


def test_a_question_is_numbered_and_answered(lines: LinePort, parrot: Parrot):
    parrot.answers["P2220"] = "$# ok X1 Y2 Z3"
    assert lines.ask("P2220", timeout_s=1.0).text == "X1 Y2 Z3"
    assert lines.ask("M17", timeout_s=1.0).kind == LineKind.OK
    assert parrot.heard == ["#1 P2220", "#2 M17"]


def test_a_silent_device_is_asked_three_times_and_then_named(
    lines: LinePort, parrot: Parrot, port: SerialPort
):
    parrot.answers["P2220"] = ""
    with pytest.raises(RobotError, match=r"arm-1: .*'P2220' within 0.2 s.*check its supply"):
        lines.ask("P2220", timeout_s=0.05)
    assert parrot.heard == ["#1 P2220", "#2 P2220", "#3 P2220"]
    assert (port.counters.retries, port.counters.timeouts) == (2, 3)


def test_the_answer_to_an_earlier_question_is_not_taken_for_this_ones(
    lines: LinePort, parrot: Parrot, port: SerialPort
):
    parrot.answers["P2220"] = "$99 ok X9 Y9 Z9\n$# ok X1 Y2 Z3"
    assert lines.ask("P2220", timeout_s=1.0).text == "X1 Y2 Z3"
    assert port.counters.garbage_bytes > 0


def test_what_is_said_unasked_is_kept_once(lines: LinePort, parrot: Parrot):
    parrot.answers["M17"] = "@6 N0 V1\n$# ok"
    lines.ask("M17", timeout_s=1.0)
    parrot.unasked = b"ALARM:2\n@5 V0\n"
    while parrot.unasked:
        pass
    kinds = [(line.kind, line.text) for line in lines.unasked()]
    assert kinds == [
        (LineKind.EVENT, "@6 N0 V1"), (LineKind.EVENT, "@5 V0"), (LineKind.ALARM, "2"),
    ]  # fmt: skip
    assert lines.unasked() == []


def test_an_alarm_ends_whatever_was_asked(lines: LinePort, parrot: Parrot):
    parrot.answers["G1 X1"] = "ALARM:1"
    assert lines.ask("G1 X1", timeout_s=5.0).kind == LineKind.ALARM


def test_a_wait_can_be_ended_from_another_thread(lines: LinePort, parrot: Parrot):
    parrot.answers["G1 X1"] = ""
    stopped = threading.Event()

    @contextmanager
    def passing() -> Iterator[None]:
        if stopped.is_set():
            raise RobotError("stopped")
        yield

    threading.Timer(0.1, stopped.set).start()
    with pytest.raises(RobotError, match="stopped"):
        lines.ask("G1 X1", timeout_s=60.0, tries=1, passing=passing)


def test_a_cable_pulled_out_while_waiting_ends_the_wait(
    lines: LinePort, parrot: Parrot, line: PtyPort
):
    parrot.answers["G1 X1"] = ""
    threading.Timer(0.1, line.unplug).start()
    with pytest.raises(PortGoneError, match=r"arm-1: .*gone"):
        lines.ask("G1 X1", timeout_s=60.0, tries=1)
    line.plug()
    assert lines.ask("M17", timeout_s=1.0).kind == LineKind.OK


def test_a_second_agent_on_the_port_is_refused(lines: LinePort, line: PtyPort):
    lines.open()
    second = LinePort(SerialPort(line.path, baud=115200), name="arm-2", is_numbered=True)
    with pytest.raises(ConfigurationError, match=r"arm-2: .*another agent"):
        second.open()


def test_a_device_that_babbles_without_a_newline_fills_no_memory(
    lines: LinePort, parrot: Parrot, port: SerialPort
):
    parrot.answers["M17"] = "x" * 5000
    with pytest.raises(RobotError, match="bytes that are no answer"):
        lines.ask("M17", timeout_s=0.1, tries=1)
    assert port.counters.garbage_bytes > 4000
