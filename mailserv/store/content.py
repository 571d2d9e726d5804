"""Stored content on its way out: read when it is asked for, and checked for being what was stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mailserv.errors import StoreUnavailable
from mailserv.mail.message import BytesContent, Content
from mailserv.store.connection import Readers, primary_code
from mailserv.store.spool import Spool

EAGER = 64 * 1024  # octets: up to here a claim brings the content along, which saves a second query for most messages

READ_MESSAGE = """
    SELECT size, file, length(content), CASE WHEN size <= ? THEN content END FROM message WHERE id = ?"""


class Damaged(Exception):
    """Content or row that is not what was stored; why, for the log."""


@dataclass(frozen=True, slots=True)
class RowContent:
    """Content in a row, read at each `blocks`. Any thread. `load` raises StoreUnavailable."""

    size: int
    load: Callable[[], bytes]

    def blocks(self) -> Iterator[bytes]:
        yield self.load()


def is_damage(error: sqlite3.Error) -> bool:
    """Whether this error says that what is stored is broken, not that the disk or a lock is in the way.

    An error without SQLite's code is Python's: text that is no UTF-8.
    """
    return isinstance(error, sqlite3.DatabaseError) and primary_code(error) in {sqlite3.SQLITE_CORRUPT, None}


def read_content(
    connection: sqlite3.Connection, readers: Readers, spool: Spool, message_id: int, at_once: int = EAGER
) -> Content | None:
    """A message's content; None when there is no such message. Raises Damaged, sqlite3.Error.

    Content in the row comes as bytes up to `at_once` octets, beyond as something that reads it when asked.
    """
    row = connection.execute(READ_MESSAGE, (at_once, message_id)).fetchone()
    if row is None:
        return None
    size, file, length, data = row
    if file is not None:
        if not spool.is_whole(file, size):
            raise Damaged(f"spool file {file} is missing or has another size than {size}")
        return spool.file(file, size)
    if length != size:
        raise Damaged(f"{length} octets where {size} were stored")
    if data is not None:
        return BytesContent(data)
    # Read to the end and let go: a broken page is found here, where it leads to quarantine, not in a transport.
    connection.execute("SELECT content FROM message WHERE id = ?", (message_id,)).fetchone()
    return RowContent(size, lambda: _load(readers, message_id, size))


def _load(readers: Readers, message_id: int, size: int) -> bytes:
    with readers.connection() as connection:
        row = connection.execute("SELECT content FROM message WHERE id = ?", (message_id,)).fetchone()
    if row is None or len(row[0]) != size:
        raise StoreUnavailable("the message's content is gone")
    content: bytes = row[0]
    return content
