"""What several gateways together know of orders to stop."""

from __future__ import annotations

from pathlib import Path

from learner.ingestion.stop_orders import KEPT_SETTLED, StopOrders

ARM, LEG = "arm", "leg"


def number(count: int) -> bytes:
    return count.to_bytes(16, "big")


def gateways(folder: Path, count: int) -> list[StopOrders]:
    return [StopOrders(folder / f"{place}.json") for place in range(count)]


def exchange(*all_of_them: StopOrders) -> None:
    books = [one.book for one in all_of_them]
    for place, one in enumerate(all_of_them):
        one.hear(book for at, book in enumerate(books) if at != place)


def test_an_order_reaches_every_gateway_and_is_settled_everywhere(tmp_path: Path):
    first, second, third = all_of_them = gateways(tmp_path, 3)
    first.add([ARM, LEG], number(1), "operator")
    exchange(*all_of_them)
    assert {one.of(ARM).order_id for one in all_of_them} == {number(1)}
    third.confirm(ARM, number(1), resumed=False)
    exchange(*all_of_them)
    assert all(one.state(ARM).confirmed_at_ns for one in all_of_them)
    second.confirm(ARM, number(1), resumed=True)
    exchange(*all_of_them)
    assert {one.of(ARM) for one in all_of_them} == {None}
    exchange(*all_of_them)
    assert {one.of(ARM) for one in all_of_them} == {None}
    assert {one.of(LEG).order_id for one in all_of_them} == {number(1)}


def test_what_a_gateway_said_before_it_went_away_brings_no_settled_order_back(tmp_path: Path):
    first, second = gateways(tmp_path, 2)
    first.add([ARM], number(1), "operator")
    before = first.book
    second.hear([before])
    second.confirm(ARM, number(1), resumed=True)
    second.hear([before])
    assert second.of(ARM) is None
    again = StopOrders(tmp_path / "1.json")
    again.hear([before])
    assert again.of(ARM) is None


def test_a_gateway_that_never_knew_an_order_does_not_take_it_from_one_that_missed_its_end(
    tmp_path: Path,
):
    first, second, third = gateways(tmp_path, 3)
    first.add([ARM], number(1), "operator")
    second.hear([first.book])
    second.confirm(ARM, number(1), resumed=True)
    third.hear([first.book, second.book])
    assert third.of(ARM) is None


def test_a_newer_order_takes_an_older_ones_place_at_every_gateway(tmp_path: Path):
    first, second = gateways(tmp_path, 2)
    first.add([ARM], number(1), "operator")
    exchange(first, second)
    second.add([ARM], number(2), "operator")
    exchange(first, second)
    for one in (first, second):
        assert one.of(ARM).order_id == number(2)
        assert "newer" in one.state_of(ARM, number(1)).trouble
    first.confirm(ARM, number(2), resumed=True)
    assert first.of(ARM) is None


def test_orders_that_were_given_to_two_gateways_apart_are_both_obeyed(tmp_path: Path):
    first, second = gateways(tmp_path, 2)
    first.add([ARM], number(1), "operator")
    second.add([ARM], number(2), "operator")
    exchange(first, second)
    obeyed = set()
    for _ in range(2):
        obeyed.add(order := first.of(ARM).order_id)
        first.confirm(ARM, order, resumed=True)
    assert obeyed == {number(1), number(2)}
    exchange(first, second)
    assert second.of(ARM) is None


def test_to_hear_the_same_again_writes_nothing(tmp_path: Path):
    first, second = gateways(tmp_path, 2)
    first.add([ARM], number(1), "operator")
    exchange(first, second)
    files = [tmp_path / f"{place}.json" for place in range(2)]
    written = [file.stat().st_ino for file in files]
    exchange(first, second)
    assert [file.stat().st_ino for file in files] == written


def test_settled_orders_are_forgotten_in_the_end_and_open_ones_never(tmp_path: Path):
    first, second = gateways(tmp_path, 2)
    first.add([ARM], number(1), "operator")
    for count in range(2, 3 * KEPT_SETTLED):
        second.add([ARM], number(count), "operator")
        second.confirm(ARM, number(count), resumed=True)
    exchange(first, second)
    assert len(second.book[ARM]) == KEPT_SETTLED + 1
    assert second.of(ARM).order_id == number(1)
