"""Echoes are taken off, answers never."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from robot_agent.serial_bus.echo import UNECHOED_BYTES, EchoFilter

pieces = st.lists(st.binary(min_size=1, max_size=4), min_size=1, max_size=8)


@given(request=st.binary(min_size=1, max_size=8), answer=pieces, cut=st.integers(0, 8))
def test_an_echo_in_pieces_is_taken_off_and_the_answer_is_not(
    request: bytes, answer: list[bytes], cut: int
):
    echo = EchoFilter()
    for _ in range(2):
        echo.expect(request)
        got = echo.strip(request[:cut]) + echo.strip(request[cut:] + answer[0])
        got += b"".join(map(echo.strip, answer[1:]))
        assert got + echo.give_up() == b"".join(answer)
        echo.answered()


@given(request=st.binary(min_size=1, max_size=8), answer=pieces)
def test_without_an_echo_every_byte_arrives(request: bytes, answer: list[bytes]):
    whole = b"".join(answer)
    if whole.startswith(request):
        return  # not to be told from an echo before the adapter is known
    echo = EchoFilter()
    echo.expect(request)
    assert b"".join(map(echo.strip, answer)) + echo.give_up() == whole


def test_an_adapter_that_does_not_echo_may_bring_an_answer_equal_to_its_request():
    echo = EchoFilter()
    echo.expect(b"ping")
    assert echo.strip(b"pong") == b"pong"
    echo.answered()
    echo.expect(b"ping")
    assert echo.strip(b"ping") == b"ping"


@given(requests=st.lists(st.binary(min_size=1, max_size=4), min_size=1, max_size=4), answer=pieces)
def test_echoes_that_come_late_are_taken_off_together(requests: list[bytes], answer: list[bytes]):
    echo = EchoFilter()
    for request in requests:
        echo.expect(request)
    arrived = [*requests, *answer]
    assert b"".join(map(echo.strip, arrived)) == b"".join(answer)


def test_an_adapter_that_never_echoed_is_known_without_an_answer():
    echo = EchoFilter()
    for _ in range(UNECHOED_BYTES // 8 + 2):
        echo.expect(b"12345678")
    assert echo.strip(b"12345678") == b"12345678"
