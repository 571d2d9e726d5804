"""Messages whose time in a mailbox is over: deleted in small transactions, each as many as new mail can wait for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

import msgspec

from mailserv.store.listing import MaildropMessage
from mailserv.store.references import BATCH, release
from mailserv.store.writer import Work, Writer

# Rows come in the order of their ids, so the oldest are looked at and nothing behind the first that stays.
OLDEST = """
    SELECT coalesce(arrived_at, (SELECT received_at FROM message WHERE id = message_id)) FROM mailbox
    WHERE account_id = (SELECT id FROM account WHERE address = ? AND gone = 0) ORDER BY id LIMIT 1"""
EXPIRE = """
    DELETE FROM mailbox WHERE id IN (
        SELECT id FROM mailbox WHERE account_id = (SELECT id FROM account WHERE address = ? AND gone = 0)
        ORDER BY id LIMIT ?)
    AND coalesce(arrived_at, (SELECT received_at FROM message WHERE id = message_id)) < ? RETURNING message_id"""
FIRST_RETRIEVED = """
    SELECT retrieved_at FROM mailbox WHERE retrieved_at IS NOT NULL
    AND account_id = (SELECT id FROM account WHERE address = ? AND gone = 0) ORDER BY retrieved_at LIMIT 1"""
EXPIRE_RETRIEVED = """
    DELETE FROM mailbox WHERE id IN (
        SELECT id FROM mailbox WHERE retrieved_at < ?
        AND account_id = (SELECT id FROM account WHERE address = ? AND gone = 0) ORDER BY retrieved_at LIMIT ?)
    RETURNING message_id"""
RETRIEVED = """
    UPDATE mailbox SET retrieved_at = ?
    WHERE id IN (SELECT value FROM json_each(?)) AND retrieved_at IS NULL"""

MARKS = 500  # rows marked in one transaction: some milliseconds


def expire(
    connection: sqlite3.Connection, writer: Writer, account: str, before: float, go_on: Callable[[], bool]
) -> int:
    """Delete what came before that time (epoch seconds), while `go_on()`. How many. Raises StoreError."""
    return _in_batches(
        writer,
        lambda: _is_before(connection, OLDEST, account, before) and go_on(),
        lambda work: work.connection.execute(EXPIRE, (account, BATCH, before)).fetchall(),
    )


def expire_retrieved(
    connection: sqlite3.Connection, writer: Writer, account: str, before: float, go_on: Callable[[], bool]
) -> int:
    """The same for what was first retrieved before that time."""
    return _in_batches(
        writer,
        lambda: _is_before(connection, FIRST_RETRIEVED, account, before) and go_on(),
        lambda work: work.connection.execute(EXPIRE_RETRIEVED, (before, account, BATCH)).fetchall(),
    )


def _is_before(connection: sqlite3.Connection, sql: str, account: str, before: float) -> bool:
    """Asked beside the writer: mailboxes with nothing to delete, nearly all of them, cost it nothing."""
    row = connection.execute(sql, (account,)).fetchone()
    return row is not None and row[0] < before


def _in_batches(writer: Writer, wanted: Callable[[], bool], some: Callable[[Work], list[tuple[int]]]) -> int:
    def action(work: Work) -> int:
        gone = some(work)
        release(work, dict.fromkeys(message_id for (message_id,) in gone))
        return len(gone)

    count = 0
    while wanted() and (gone := writer.run(action, frees=True)):
        count += gone
    return count


def mark_retrieved(writer: Writer, messages: Sequence[MaildropMessage], now: float) -> None:
    """Note when these were first retrieved. Raises StoreError."""
    for at in range(0, len(messages), MARKS):
        row_ids = msgspec.json.encode([message.row_id for message in messages[at : at + MARKS]]).decode()
        writer.run(lambda work, ids=row_ids: work.connection.execute(RETRIEVED, (now, ids)).rowcount)  # type: ignore[misc]
