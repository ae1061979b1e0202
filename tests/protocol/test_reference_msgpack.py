"""Message headers are MessagePack that any other implementation reads and writes."""

from __future__ import annotations

import msgpack

from protocol.codec import decode_message, encode_message
from protocol.messages import Ack, FromGateway, Hello, ToGateway

SPOOL = bytes(range(16))
HELLO = {
    "type": "hello",
    "wire_version": 1,
    "software_version": "0.1.0",
    "claimed_name": "arm-1",
    "spool_id": SPOOL,
    "next_sequence": 7,
}


def test_the_reference_implementation_reads_our_headers():
    header = encode_message(Ack(spool_id=SPOOL, sequences=[1, 2, 300]))
    assert msgpack.unpackb(header) == {"type": "ack", "spool_id": SPOOL, "sequences": [1, 2, 300]}
    assert decode_message(header, FromGateway).sequences == [1, 2, 300]


def test_we_read_headers_of_the_reference_implementation():
    hello = decode_message(msgpack.packb(HELLO), ToGateway)
    assert hello == Hello(**{key: value for key, value in HELLO.items() if key != "type"})
