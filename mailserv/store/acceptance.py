"""One acceptance, made ready on its session's thread and written by the writer: content, mailbox rows, queue rows, trace."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from mailserv.errors import DuplicateError, StoreError
from mailserv.mail.message import Acceptance, Content, Once, header_section
from mailserv.mail.route import Route
from mailserv.mail.value import Value
from mailserv.store import once, totals
from mailserv.store.codec import pack_address, pack_parameters, pack_trace
from mailserv.store.references import release
from mailserv.store.spool import THRESHOLD, Spool, check_queue_id
from mailserv.store.totals import FITS, Fit, Quota, fit
from mailserv.store.writer import Work, Writer

T = TypeVar("T")

INSERT_MESSAGE = """
    INSERT INTO message (queue_id, reverse_path, parameters, received_at, login, peer_ip, size, file, content)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# IGNORE: an account that is gone, and a recipient that is there already. Not INSERT … SELECT: since a trigger changes the
# account, SQLite would keep what it selected in a table of its own, made for each row, which takes longer than all the rest.
INSERT_MAILBOX = """
    INSERT OR IGNORE INTO mailbox (message_id, recipient, unique_id, size, prefix, utf8, account_id)
    VALUES (?, ?, ?, ?, ?, ?, (SELECT id FROM account WHERE address = ? AND gone = 0))"""
IS_THERE = """
    SELECT 1 FROM mailbox WHERE message_id = ? AND recipient = ?
    AND account_id = (SELECT id FROM account WHERE address = ? AND gone = 0)"""
INSERT_QUEUE = """
    INSERT INTO queue (message_id, state, transport, next_hop, not_before, forward_path, original, parameters)
    VALUES (?, 'ready', ?, ?, ?, ?, ?, ?)"""
INSERT_TRACE = "INSERT INTO trace (queue_id, at, entries) VALUES (?, ?, ?)"


class Prepared(Value, frozen=True):
    """An acceptance as rows. `weight` octets go through the WAL; `file` is the spool file it owns, "" without one."""

    queue_id: str
    message: tuple[str | float | bytes | None, ...]
    mailboxes: Sequence[tuple[str, str, int, bytes, bool, str]]
    queued: Sequence[tuple[str | float, ...]]
    routes: frozenset[Route]
    trace: tuple[str, float, str] | None
    file: str
    weight: int
    quotas: tuple[Quota, ...] = ()
    received_at: float = 0.0
    once: Once | None = None


def prepare(acceptance: Acceptance, spool: Spool) -> Prepared:
    """Make the rows; content that is large and in no spool file is written to one. Raises StoreError, ValueError."""
    queue_id = acceptance.queue_id
    check_queue_id(queue_id)
    data, file, size = _place(queue_id, acceptance.content, spool)
    is_utf8 = _is_internationalised(acceptance)
    return Prepared(
        queue_id=queue_id,
        message=(
            queue_id,
            pack_address(acceptance.reverse_path),
            pack_parameters(acceptance.parameters),
            acceptance.received_at,
            acceptance.login,
            acceptance.peer_ip,
            size,
            file or None,
            data,
        ),
        mailboxes=[
            (each.recipient, f"{queue_id}.{number}", len(each.prefix) + size, each.prefix, is_utf8, each.account)
            for number, each in enumerate(acceptance.mailboxes)
        ],
        queued=[
            (
                each.route.transport,
                each.route.next_hop,
                acceptance.received_at,
                pack_address(each.forward_path),
                pack_address(each.original),
                pack_parameters(each.parameters),
            )
            for each in acceptance.queued
        ],
        routes=frozenset([each.route for each in acceptance.queued]),
        trace=(queue_id, acceptance.trace[0].at, pack_trace(acceptance.trace)) if acceptance.trace else None,
        file=file,
        weight=len(data) if data is not None else 0,
        received_at=acceptance.received_at,
        once=acceptance.once,
        quotas=totals.quotas(acceptance.mailboxes, size, is_queued=bool(acceptance.queued))
        if any(each.quota for each in acceptance.mailboxes)
        else (),
    )


def _is_internationalised(acceptance: Acceptance) -> bool:
    """RFC 6532, and not only 8-bit text where none may be: that one came without SMTPUTF8, and stays as it came."""
    return "SMTPUTF8" in acceptance.parameters and not (
        header_section(acceptance.content).isascii() and all(each.prefix.isascii() for each in acceptance.mailboxes)
    )


def commit(work: Work, prepared: Prepared, notices: Sequence[Prepared]) -> Fit | str:
    """Write a message and its notices, unless a mailbox is full, or it was accepted once: its queue id of then."""
    if prepared.once is not None:
        earlier = once.made(work.connection, prepared.once.key, prepared.received_at)
        if earlier is not None:
            return earlier
    found = fit(work, prepared.quotas) if prepared.quotas else FITS
    if not found.full:
        insert(work, prepared)
        if prepared.once is not None:
            once.remember(work.connection, prepared.once, prepared.queue_id)
        for each in notices:
            insert(work, each, is_bounce=True)
    return found


def with_bounces(writer: Writer, spool: Spool, bounces: Sequence[Prepared], action: Callable[[Work], T]) -> T:
    """Have an action committed that writes these, too. On an error their files are gone."""
    files = [each.file for each in bounces if each.file]
    try:
        result = writer.run(action, sum(each.weight for each in bounces), frees=True)
    except StoreError:
        for file in files:
            spool.discard(file)
        raise
    for file in files:
        spool.claimed(file)
    return result


def insert(work: Work, prepared: Prepared, *, is_bounce: bool = False) -> None:
    """Write it. Raises DuplicateError for a queue id that is there, StoreError when a mailbox's account is gone.

    A bounce goes without the mailbox that is gone: its failure must not undo the settlement it belongs to.
    """
    connection = work.connection
    if prepared.trace is not None:
        connection.execute(INSERT_TRACE, prepared.trace)
    if not prepared.mailboxes and not prepared.queued:  # accepted for nobody: nothing would ever refer to it
        if prepared.file:
            work.files.append(prepared.file)
        return
    message_id = _insert_message(connection, prepared)
    if prepared.mailboxes:
        cursor = connection.executemany(INSERT_MAILBOX, [(message_id, *row) for row in prepared.mailboxes])
        if cursor.rowcount != len(prepared.mailboxes) and not is_bounce:
            _check_mailboxes(connection, message_id, prepared)
    if prepared.queued:
        connection.executemany(INSERT_QUEUE, [(message_id, *row) for row in prepared.queued])
        work.queued |= prepared.routes
    elif is_bounce:
        release(work, [message_id])


def _insert_message(connection: sqlite3.Connection, prepared: Prepared) -> int:
    try:
        return connection.execute(INSERT_MESSAGE, prepared.message).lastrowid or 0
    except sqlite3.IntegrityError as error:
        raise DuplicateError(f"queue id {prepared.queue_id} is already there") from error


def _check_mailboxes(connection: sqlite3.Connection, message_id: int, prepared: Prepared) -> None:
    """Fewer mailbox rows than recipients: one named twice is no error, one without a row is, its account being gone."""
    for recipient, *_, account in prepared.mailboxes:
        if not connection.execute(IS_THERE, (message_id, recipient, account)).fetchone():
            raise StoreError(f"no such account: {account}")


def _place(queue_id: str, content: Content, spool: Spool) -> tuple[bytes | None, str, int]:
    """The content's bytes for its row, or the name of the spool file it is in; and how many octets there are."""
    if name := spool.name_of(content):
        return None, name, content.size
    if content.size <= THRESHOLD:
        data = b"".join(content.blocks())
        return data, "", len(data)
    writer = spool.writer(queue_id)
    try:
        for block in content.blocks():
            writer.write(block)
        stored = writer.finish()
    except BaseException:
        writer.discard()
        raise
    name = spool.name_of(stored) or ""
    return None if name else b"".join(stored.blocks()), name, stored.size
