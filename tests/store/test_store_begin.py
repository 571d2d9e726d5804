"""A transaction that waits for another process's: how often it looks, and for how long."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mailserv.store.connection import begin, create_database, look_often, open_writer
from mailserv.store.disk import DISK


@pytest.fixture
def both(tmp_path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    path = tmp_path / "x.db"
    create_database(path, DISK)
    return open_writer(path, DISK), look_often(open_writer(path, DISK))


def test_it_looks_again_by_itself_until_the_other_is_done(both: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    """And does not leave it to SQLite, whose looks become seldom."""
    holder, waiting = both
    holder.execute("BEGIN IMMEDIATE")
    looks = 0

    def seen(_: str) -> None:
        nonlocal looks
        looks += 1
        if looks == 5:
            holder.execute("COMMIT")

    waiting.set_trace_callback(seen)
    begin(waiting, 60.0)
    assert waiting.in_transaction
    assert looks >= 5
    waiting.execute("ROLLBACK")


def test_it_gives_up_in_the_end(both: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    holder, waiting = both
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as raised:
        begin(waiting, 0.01)
    assert raised.value.sqlite_errorcode == sqlite3.SQLITE_BUSY
    assert not waiting.in_transaction
    holder.execute("ROLLBACK")
    begin(waiting, 0.01)


def test_what_is_wrong_besides_is_not_waited_for(both: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    _, waiting = both
    begin(waiting, 60.0)
    with pytest.raises(sqlite3.OperationalError):
        begin(waiting, 60.0)
