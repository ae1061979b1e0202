"""What all buses of intelligent motors share: requests, their answers, and tries with a limit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol

from protocol.errors import NoAnswerError
from robot_agent.serial_bus.packet_stream import PacketStream, StatusPacket
from robot_agent.serial_bus.port import BusCounters, SerialPort


class Register(Protocol):
    """A place in a motor's memory that holds one number."""

    @property
    def address(self) -> int:
        """Of its first byte."""
        ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    def encode(self, value: int) -> bytes:
        """Return ``value`` as the motor keeps it; ValueError if it does not fit."""
        ...

    def decode(self, data: bytes) -> int:
        """Return the value of the register's bytes."""
        ...


class ServoBus(ABC):
    """The motors on one port.

    Whatever is asked raises PortGoneError when the port vanished, and ConfigurationError when it
    cannot be opened (see SerialPort).
    """

    refusal_bits: ClassVar[int] = 0
    """Bits of the error byte of a packet that comes without what was asked for."""

    def __init__(self, port: SerialPort, *, reply_timeout_s: float = 0.02, tries: int = 3) -> None:
        """Take the port.

        Motors and adapter have ``reply_timeout_s`` besides the time on the wire; a request is sent
        ``tries`` times at most until all have answered.
        """
        self.port = port
        self._reply_timeout_s = reply_timeout_s
        self._tries = tries

    @property
    def counters(self) -> BusCounters:
        """What happened on the port so far."""
        return self.port.counters

    @abstractmethod
    def read(self, servo_id: int, address: int, length: int) -> StatusPacket:
        """Return ``length`` bytes of a motor's memory as the packet's parameters.

        Raises:
            NoAnswerError: it did not answer within all tries.
        """

    @abstractmethod
    def write(self, servo_id: int, address: int, data: bytes) -> StatusPacket:
        """Write into a motor's memory.

        Raises:
            NoAnswerError: it did not answer within all tries.
        """

    @abstractmethod
    def sync_read(
        self, servo_ids: Sequence[int], address: int, length: int
    ) -> dict[int, StatusPacket]:
        """Return the same bytes of several motors, in the order of ``servo_ids``, asked at once.

        Raises:
            NoAnswerError: one of them did not answer within all tries.
        """

    @abstractmethod
    def sync_write(self, address: int, data: Mapping[int, bytes]) -> None:
        """Write the same registers of several motors at once, by id; nobody answers."""

    def read_register(self, servo_id: int, register: Register) -> int:
        """Return one number.

        Raises:
            NoAnswerError: the motor did not answer within all tries.
        """
        packet = self.read(servo_id, register.address, register.size)
        return register.decode(packet.parameters)

    def write_register(self, servo_id: int, register: Register, value: int) -> None:
        """Write one number.

        Raises:
            NoAnswerError: the motor did not answer within all tries.
        """
        self.write(servo_id, register.address, register.encode(value))

    def sync_write_register(self, register: Register, values: Mapping[int, int]) -> None:
        """Write one number to several motors at once, by id; nobody answers."""
        self.sync_write(
            register.address, {one: register.encode(value) for one, value in values.items()}
        )

    def close(self) -> None:
        """Let go of the port. May be called twice."""
        self.port.close()

    @abstractmethod
    def _stream(self, parameters: int) -> PacketStream:
        """Return what finds status packets of that many parameters."""

    def _ask(
        self,
        request: Callable[[Sequence[int]], bytes],
        servo_ids: Sequence[int],
        parameters: int,
    ) -> dict[int, StatusPacket]:
        """Send the request, again to those that have not answered, until all have."""
        packets: dict[int, StatusPacket] = {}
        missing: Sequence[int] = servo_ids
        reply_bytes = len(servo_ids) * (parameters + 16)  # no header is longer, with some stuffing
        for attempt in range(self._tries):
            self.counters.retries += attempt > 0
            reply = _Replies(self._stream(parameters), missing, parameters, self.refusal_bits)
            data = request(missing)
            timeout_s = self._reply_timeout_s + self.port.wire_s(len(data) + reply_bytes)
            if not self.port.exchange(data, reply, timeout_s=timeout_s):
                reply.finish()
            self._count(reply.stream)
            packets |= reply.packets
            missing = [one for one in servo_ids if one not in packets]
            if not missing:
                return {one: packets[one] for one in servo_ids}
        raise NoAnswerError(
            f"{self.port.path}: servo {', '.join(map(str, missing))} did not answer in "
            f"{self._tries} tries: check its cable, its supply and its id"
        )

    def _count(self, stream: PacketStream) -> None:
        self.counters.checksum_errors += stream.checksum_errors
        self.counters.garbage_bytes += stream.garbage_bytes


class _Replies:
    """The answers of several motors to one request."""

    def __init__(
        self,
        stream: PacketStream,
        servo_ids: Sequence[int],
        parameters: int,
        refusal_bits: int,
    ) -> None:
        self.stream = stream
        self.packets: dict[int, StatusPacket] = {}
        self._awaited = set(servo_ids)
        self._parameters = parameters
        self._refusal_bits = refusal_bits

    def feed(self, data: bytes) -> bool:
        """Take what arrived; True once all have answered."""
        self._take(self.stream.feed(data))
        return not self._awaited

    def finish(self) -> None:
        """Look for whole packets behind what never became one."""
        self._take(self.stream.feed(b"", is_last=True))

    def _take(self, packets: list[StatusPacket]) -> None:
        for packet in packets:
            fits = len(packet.parameters) == self._parameters or packet.error & self._refusal_bits
            if fits and packet.servo_id in self._awaited:
                self._awaited.discard(packet.servo_id)
                self.packets[packet.servo_id] = packet
            else:
                self.stream.garbage_bytes += packet.wire_bytes


def check_fits(value: int, low: int, high: int) -> None:
    """Refuse a number that a register cannot hold.

    Raises:
        ValueError: it is not within ``low`` and ``high``.
    """
    if not low <= value <= high:
        raise ValueError(f"{value} is not within {low} and {high}")
