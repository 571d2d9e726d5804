"""Traces are kept for their time and then go, a little at a time."""

from __future__ import annotations

from pathlib import Path

from store_kit import behind, count, to_mailbox

from mailserv.mail.trace import TraceEntry
from mailserv.store.interface import Store


def test_a_trace_outlives_its_message(store: Store) -> None:
    store.accept(to_mailbox("Q1"))
    store.remove_account("alice@example.org")
    assert [entry.event for entry in store.trace("Q1")] == ["accepted"]
    assert store.trace("unknown") == []


def test_what_is_older_goes_and_the_rest_stays(store: Store) -> None:
    for number in range(10):
        store.accept(to_mailbox(f"Q{number}", at=float(number)))
    store.settle("node", [], trace=[("Q1", TraceEntry(100.0, "delivered"))])
    assert store.expire_trace(5.0) == 5
    assert store.trace("Q0") == []
    assert [entry.event for entry in store.trace("Q1")] == ["delivered"]
    assert len(store.trace("Q5")) == 1
    assert store.expire_trace(5.0) == 0


def test_a_long_trace_goes_in_several_transactions(store: Store, data_dir: Path) -> None:
    with behind(data_dir) as connection:
        connection.execute(
            """INSERT INTO trace (queue_id, at, entries) WITH RECURSIVE n(i) AS
            (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1250) SELECT 'Q' || i, i, '[]' FROM n"""
        )
    assert store.expire_trace(1250.0) == 1249
    assert count(data_dir, "trace") == 1
