"""Messages from elsewhere into a mailbox, each once: its key is committed together with its row."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mailserv.errors import StoreError
from mailserv.store.acceptance import Prepared, insert, prepare
from mailserv.store.interface import Imported
from mailserv.store.maildrop import ACCOUNT
from mailserv.store.spool import Spool
from mailserv.store.writer import Work, Writer

IS_KNOWN = """
    SELECT 1 FROM imported WHERE key = ?
    AND account_id = (SELECT id FROM account WHERE address = ? AND gone = 0)"""
REMEMBER = "INSERT OR IGNORE INTO imported (account_id, key) VALUES (?, ?)"
ARRIVED = "UPDATE mailbox SET arrived_at = ? WHERE message_id = (SELECT id FROM message WHERE queue_id = ?)"


def is_known(connection: sqlite3.Connection, account: str, key: bytes) -> bool:
    return connection.execute(IS_KNOWN, (key, account)).fetchone() is not None


def commit(writer: Writer, spool: Spool, account: str, messages: Sequence[Imported], *, again: bool) -> int:
    """All of them in one transaction. How many came. Raises StoreError; their spool files are then gone."""
    prepared: list[tuple[Imported, Prepared]] = []
    try:
        prepared += ((each, prepare(each.acceptance, spool)) for each in messages)
        new = writer.run(lambda work: _insert(work, account, prepared, again=again), sum(p.weight for _, p in prepared))
    except StoreError:
        for _, each in prepared:
            spool.discard(each.file)
        raise
    for (_, each), is_new in zip(prepared, new, strict=True):
        if is_new:
            spool.claimed(each.file)
        else:
            spool.discard(each.file)
    return sum(new)


def _insert(work: Work, account: str, prepared: Sequence[tuple[Imported, Prepared]], *, again: bool) -> list[bool]:
    """For each of them, whether it came."""
    found = work.connection.execute(ACCOUNT, (account,)).fetchone()
    if found is None:
        raise StoreError(f"no such account: {account}")
    new = []
    for each, rows in prepared:
        is_new = work.connection.execute(REMEMBER, (found[0], each.key)).rowcount > 0 or again
        if is_new:
            insert(work, rows)
            work.connection.execute(ARRIVED, (each.arrived_at, rows.queue_id))
        new.append(is_new)
    return new
