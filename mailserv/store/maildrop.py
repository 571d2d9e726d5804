"""Mailboxes as POP3 sees them (RFC 1939): listed without reading a body, read one at a time, deleted at QUIT."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from mailserv.mail.message import BytesContent, Content, PrefixedContent
from mailserv.store.codec import unpack_address
from mailserv.store.connection import Readers
from mailserv.store.content import read_content
from mailserv.store.deletions import keep_one, pieces, promise
from mailserv.store.interface import MailboxEntry
from mailserv.store.listing import PROMISED, MaildropMessage
from mailserv.store.spool import THRESHOLD, Spool
from mailserv.store.writer import Work, Writer

ACCOUNT = "SELECT id FROM account WHERE address = ? AND gone = 0"
ENTRIES = """
    SELECT unique_id, mailbox.size, mailbox.id, received_at, reverse_path FROM mailbox
    JOIN message ON message.id = message_id WHERE account_id = ? ORDER BY mailbox.id"""
READ = "SELECT message_id, prefix FROM mailbox WHERE id = ? AND unique_id = ?"

READ_AHEAD = """
    SELECT unique_id, prefix, message.size, content FROM mailbox JOIN message ON message.id = message_id
    WHERE mailbox.id IN (SELECT value FROM json_each(?)) AND file IS NULL"""


def entries(connection: sqlite3.Connection, address: str) -> list[MailboxEntry]:
    """The same with what an operator wants to know."""
    account = connection.execute(ACCOUNT, (address,)).fetchone()
    if account is None:
        return []
    promised = {row_id for (row_id,) in connection.execute(PROMISED, account)}
    return [
        MailboxEntry(MaildropMessage(unique_id, size, row_id), received_at, str(unpack_address(reverse_path)))
        for unique_id, size, row_id, received_at, reverse_path in connection.execute(ENTRIES, account)
        if row_id not in promised
    ]


def read(connection: sqlite3.Connection, readers: Readers, spool: Spool, message: MaildropMessage) -> Content | None:
    """One copy: prefix and content. None when it is gone. Raises Damaged, sqlite3.Error."""
    row = connection.execute(READ, (message.row_id, message.unique_id)).fetchone()
    if row is None:
        return None
    message_id, prefix = row
    content = read_content(connection, readers, spool, message_id, at_once=THRESHOLD)
    return PrefixedContent(prefix, content) if content is not None else None


def read_ahead(connection: sqlite3.Connection, messages: Sequence[MaildropMessage]) -> dict[str, Content]:
    """Several copies by one query, by unique-id. What is in a file, gone or damaged is not among them: `read` tells."""
    wanted = json.dumps([message.row_id for message in messages])
    return {
        unique_id: BytesContent(prefix + content)
        for unique_id, prefix, size, content in connection.execute(READ_AHEAD, (wanted,))
        if content is not None and len(content) == size
    }


def delete(writer: Writer, messages: Sequence[MaildropMessage]) -> bool:
    """Delete messages of one mailbox in one transaction (RFC 1939 §6); the first of them are removed in it, too.

    Whether more wait for a Sweeper: a crash loses no order to delete.
    """
    row_ids = [message.row_id for message in messages]
    cut = pieces(row_ids)

    def action(work: Work) -> bool:
        promise(work, row_ids, cut)
        return keep_one(work)

    return writer.run(action, frees=True)
