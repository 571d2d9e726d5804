"""Every message's decisions: read for one message, expired in small transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from mailserv.logging import get_logger
from mailserv.mail.trace import TraceEntry
from mailserv.store.codec import Undecodable, pack_trace, unpack_trace
from mailserv.store.writer import Work, Writer

READ = "SELECT entries FROM trace WHERE queue_id = ? ORDER BY id"
EXPIRE = """
    DELETE FROM trace WHERE id IN (SELECT id FROM trace WHERE at < ? ORDER BY at LIMIT ?) RETURNING queue_id"""

BATCH = 500  # rows in one transaction: about 10 ms

log = get_logger("store")


def rows_of(trace: Iterable[tuple[str, TraceEntry]]) -> list[tuple[str, float, str]]:
    """(queue id, entry) pairs as rows: one for each message."""
    by_message: dict[str, list[TraceEntry]] = {}
    for queue_id, entry in trace:
        by_message.setdefault(queue_id, []).append(entry)
    return [(queue_id, entries[0].at, pack_trace(entries)) for queue_id, entries in by_message.items()]


def read(connection: sqlite3.Connection, queue_id: str) -> list[TraceEntry]:
    """One message's decisions in the order of their time. An unreadable row is logged and left out."""
    entries: list[TraceEntry] = []
    for (text,) in connection.execute(READ, (queue_id,)):
        try:
            entries += unpack_trace(text)
        except Undecodable as error:
            log.error("store_trace_damaged", queue_id=queue_id, error=str(error))
    return sorted(entries, key=lambda entry: entry.at)


def expire(writer: Writer, before: float) -> int:
    """Delete what is older than `before` (epoch seconds). How many messages' worth. Raises StoreError."""
    messages = 0
    while True:
        gone = writer.run(lambda work: _expire_some(work, before), frees=True)
        messages += len(set(gone))
        if len(gone) < BATCH:
            return messages


def _expire_some(work: Work, before: float) -> list[str]:
    return [queue_id for (queue_id,) in work.connection.execute(EXPIRE, (before, BATCH)).fetchall()]
