"""Packets are found in any bytes, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_agent.serial_bus import dynamixel, feetech
from robot_agent.serial_bus.packet_stream import PacketStream, ParseStatus, StatusPacket


@dataclass(frozen=True)
class Protocol:
    header: bytes
    parse: ParseStatus
    encode_status: Callable[[int, bytes], bytes]

    def stream(self) -> PacketStream:
        return PacketStream(self.header, self.parse)


PROTOCOLS = {
    "feetech": Protocol(
        feetech.HEADER,
        feetech.parse_status,
        lambda servo_id, parameters: feetech.encode(servo_id, 0, parameters),
    ),
    "dynamixel": Protocol(
        dynamixel.HEADER,
        dynamixel.parse_status,
        lambda servo_id, parameters: dynamixel.encode(servo_id, 0x55, b"\x00" + parameters),
    ),
}
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
# Bytes of which headers, lengths and packets are made, so that noise is not told by its looks.
noise = st.lists(
    st.sampled_from([b"\xff", b"\xfd", b"\x00", b"\x01", b"\x06", b"\x55"]) | st.binary(max_size=3),
    max_size=20,
).map(b"".join)
harmless = st.binary(max_size=40).map(lambda data: data.replace(b"\xff", b"\xfe"))
messages = st.lists(st.tuples(st.integers(1, 250), st.binary(max_size=12)), max_size=5)


@every_protocol
@given(data=noise, cuts=st.lists(st.integers(0, 60), max_size=4))
def test_any_bytes_in_any_pieces_are_packets_or_counted_as_garbage(
    protocol: Protocol, data: bytes, cuts: list[int]
):
    stream = protocol.stream()
    packets = _fed(stream, data, cuts)
    assert sum(packet.wire_bytes for packet in packets) + stream.garbage_bytes == len(data)


@every_protocol
@given(
    said=messages,
    between=st.lists(harmless, min_size=6, max_size=6),
    cuts=st.lists(st.integers(0, 200)),
)
def test_packets_are_found_between_garbage_in_any_pieces(
    protocol: Protocol, said: list[tuple[int, bytes]], between: list[bytes], cuts: list[int]
):
    pieces = [protocol.encode_status(*message) for message in said]
    data = between[0] + b"".join(
        piece + gap for piece, gap in zip(pieces, between[1:], strict=False)
    )
    stream = protocol.stream()
    packets = _fed(stream, data, cuts)
    assert [(packet.servo_id, packet.parameters) for packet in packets] == said
    assert stream.garbage_bytes == len(data) - sum(map(len, pieces))
    assert stream.checksum_errors == 0


@every_protocol
@given(before=noise, parameters=st.binary(max_size=12))
def test_a_packet_behind_any_noise_is_found_when_nothing_more_comes(
    protocol: Protocol, before: bytes, parameters: bytes
):
    packet = protocol.encode_status(7, parameters)
    stream = protocol.stream()
    found = _fed(stream, before + packet, [])
    at = stream.garbage_bytes + sum(one.wire_bytes for one in found)
    assert at == len(before) + len(packet)
    # The noise may, rarely, be a packet itself or hold a part of ours in one; then that is it.
    swallowed = any(one.wire_bytes > len(packet) or one.servo_id != 7 for one in found)
    assert swallowed or found[-1] == StatusPacket(7, 0, parameters, len(packet))


@every_protocol
@given(parameters=st.binary(max_size=12), at=st.integers(0, 100), bit=st.integers(0, 7))
def test_one_flipped_bit_is_never_taken_for_a_packet(
    protocol: Protocol, parameters: bytes, at: int, bit: int
):
    packet = bytearray(protocol.encode_status(7, parameters))
    packet[at % len(packet)] ^= 1 << bit
    stream = protocol.stream()
    assert not _fed(stream, bytes(packet), [])
    assert stream.garbage_bytes == len(packet)


@every_protocol
def test_the_beginning_of_a_packet_waits_for_its_end(protocol: Protocol):
    packet = protocol.encode_status(1, b"\x00\x01")
    stream = protocol.stream()
    assert not stream.feed(b"\xff" + packet[:5])
    assert [one.servo_id for one in stream.feed(packet[5:])] == [1]
    assert stream.garbage_bytes == 1


def _fed(stream: PacketStream, data: bytes, cuts: list[int]) -> list[StatusPacket]:
    packets = []
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        packets += stream.feed(data[at:cut])
        at = max(at, min(cut, len(data)))
    return packets + stream.feed(b"", is_last=True)
