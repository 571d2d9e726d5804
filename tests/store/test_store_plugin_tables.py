"""A plugin's own table: values and counts that outlive the server and end when they expire; the one in memory is alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserv.mail.plugin import MemoryTable, Table
from mailserv.store.interface import Store
from mailserv.store.plugin_tables import BATCH
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["sqlite", "memory"])
def table(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Table]:
    if request.param == "memory":
        yield MemoryTable(clock.now)
        return
    opened = open_store(tmp_path / "data", clock)
    yield opened.plugin_table("greylist")
    opened.close()


def test_a_value_is_there_until_it_expires(table: Table, clock: FakeClock) -> None:
    table.put("k", "first", clock.now() + 10)
    table.put("k", "secönd\0\n", clock.now() + 20)
    clock.advance(19)
    assert table.get("k") == "secönd\0\n"
    assert table.get("other") is None
    clock.advance(1)
    assert table.get("k") is None


def test_a_value_can_be_forgotten(table: Table, clock: FakeClock) -> None:
    table.put("k", "v", clock.now() + 10)
    table.delete("k")
    table.delete("k")
    assert table.get("k") is None


def test_a_count_keeps_the_end_that_it_began_with_and_then_begins_anew(table: Table, clock: FakeClock) -> None:
    assert table.increment("n", 2, clock.now() + 10) == 2
    clock.advance(9)
    assert table.increment("n", 3, clock.now() + 10) == 5
    assert table.get("n") == "5"
    clock.advance(1)
    assert table.get("n") is None
    assert table.increment("n", 1, clock.now() + 10) == 1


def test_only_what_has_expired_is_deleted(table: Table, clock: FakeClock) -> None:
    for number in range(BATCH + 7):
        table.put(f"old{number}", "v", clock.now() + 1)
    table.put("new", "v", clock.now() + 100)
    clock.advance(2)
    assert table.delete_expired() == BATCH + 7
    assert table.delete_expired() == 0
    assert table.get("new") == "v"


def test_no_plugin_sees_anothers_values(store: Store) -> None:
    one, two = store.plugin_table("one"), store.plugin_table("two")
    one.put("k", "1", 9e9)
    two.put("k", "2", 9e9)
    assert (one.get("k"), two.get("k")) == ("1", "2")
    two.delete("k")
    assert one.get("k") == "1"


def test_values_of_all_plugins_expire(store: Store) -> None:
    for name in ("one", "two"):
        store.plugin_table(name).put("k", "v", 5.0)
    store.plugin_table("one").put("later", "v", 15.0)
    assert store.expire_plugin_values(10.0) == 2


def test_a_value_outlives_the_server(tmp_path: Path) -> None:
    clock = FakeClock()
    first = open_store(tmp_path, clock)
    first.plugin_table("one").put("k", "v", clock.now() + 10)
    first.close()
    second = open_store(tmp_path, clock)
    assert second.plugin_table("one").get("k") == "v"
    second.close()


def test_no_count_is_lost_between_threads(store: Store) -> None:
    counts: list[int] = []
    table = store.plugin_table("one")
    threads = [
        threading.Thread(target=lambda: counts.extend(table.increment("n", 1, 9e9) for _ in range(20)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == list(range(1, 161))


def test_items_are_those_that_begin_so_in_order_and_have_not_expired(table: Table, clock: FakeClock) -> None:
    for number in range(BATCH + 2):
        table.put(f"k {number:04}", str(number), clock.now() + 10)
    table.put("k \0", "", clock.now() + 10)
    table.put("l", "", clock.now() + 10)
    table.put("j", "", clock.now() + 10)
    table.put("k 0001", "gone", clock.now() - 1)
    table.increment("k 0002", 5, clock.now() + 10)
    found = list(table.items("k "))
    assert [key for key, _ in found] == ["k \0", *(f"k {number:04}" for number in range(BATCH + 2) if number != 1)]
    assert dict(found)["k 0002"] == "7"
    assert len(list(table.items())) == BATCH + 4


def test_what_is_deleted_on_the_way_stops_nobody(table: Table, clock: FakeClock) -> None:
    for number in range(10):
        table.put(f"k{number}", "", clock.now() + 10)
    for key, _ in table.items("k"):
        table.delete(key)
    assert not list(table.items())
