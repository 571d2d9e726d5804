"""Mailboxes as POP3 sees them (RFC 1939): listed without reading a body, read one at a time, deleted at QUIT."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from mailserv.mail.message import Content, PrefixedContent
from mailserv.store.connection import Readers
from mailserv.store.content import read_content
from mailserv.store.interface import MaildropMessage
from mailserv.store.references import doom, sweep
from mailserv.store.spool import THRESHOLD, Spool
from mailserv.store.writer import Work, Writer

LIST = """
    SELECT unique_id, size, id FROM mailbox
    WHERE account_id = (SELECT id FROM account WHERE address = ? AND gone = 0) ORDER BY id"""
READ = "SELECT message_id, prefix FROM mailbox WHERE id = ? AND unique_id = ?"
DELETE = "DELETE FROM mailbox WHERE id IN (SELECT value FROM json_each(?)) RETURNING message_id"


def listing(connection: sqlite3.Connection, address: str) -> list[MaildropMessage]:
    """Oldest first."""
    return [MaildropMessage(*row) for row in connection.execute(LIST, (address,))]


def read(connection: sqlite3.Connection, readers: Readers, spool: Spool, message: MaildropMessage) -> Content | None:
    """One copy: prefix and content. None when it is gone. Raises Damaged, sqlite3.Error."""
    row = connection.execute(READ, (message.row_id, message.unique_id)).fetchone()
    if row is None:
        return None
    message_id, prefix = row
    content = read_content(connection, readers, spool, message_id, at_once=THRESHOLD)
    return PrefixedContent(prefix, content) if content is not None else None


def delete(writer: Writer, messages: Sequence[MaildropMessage]) -> None:
    """Delete mailbox rows in one transaction (RFC 1939 §6). The first content goes with them, more of it in small
    transactions after; a crash in between loses no order to delete."""
    row_ids = msgspec.json.encode([message.row_id for message in messages]).decode()

    def action(work: Work) -> bool:
        gone = work.connection.execute(DELETE, (row_ids,)).fetchall()
        doom(work, (message_id for (message_id,) in gone))
        return sweep(work)

    is_more = writer.run(action, frees=True)
    while is_more:
        is_more = writer.run(sweep, frees=True)
