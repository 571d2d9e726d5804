"""The store checked against itself, beside the running server: nothing is changed, and what moves meanwhile is no finding.

Each query sees the database at one moment. Files and rows are looked at one after the other, so whatever does not fit is
looked at once more: a message may have come or gone in between.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from mailserv.mail.queue_state import State
from mailserv.store.codec import Undecodable, unpack_parameters, unpack_trace
from mailserv.store.interface import Finding
from mailserv.store.spool import Spool

YOUNG = (
    7200.0  # seconds: a spool file without a row may belong to a message that is still coming in (a session has 1 h)
)

Check = Callable[[sqlite3.Connection, Spool, float], Iterator[Finding]]

CONTENT = "SELECT queue_id, size, file, length(content) FROM message"
ABANDONED = """
    SELECT queue_id FROM message WHERE NOT EXISTS (SELECT 1 FROM mailbox WHERE message_id = message.id)
    AND NOT EXISTS (SELECT 1 FROM queue WHERE message_id = message.id)"""
SIZES = """
    SELECT unique_id, mailbox.size, length(prefix) + message.size FROM mailbox JOIN message ON message.id = message_id
    WHERE mailbox.size <> length(prefix) + message.size"""
TWICE = "SELECT unique_id, count(*) FROM mailbox GROUP BY account_id, unique_id HAVING count(*) > 1"
TOTALS = """
    SELECT address, messages, octets, count(mailbox.id), coalesce(sum(mailbox.size), 0) FROM account
    LEFT JOIN mailbox ON account_id = account.id GROUP BY account.id
    HAVING messages <> count(mailbox.id) OR octets <> coalesce(sum(mailbox.size), 0)"""
STATES = "SELECT queue.id, queue_id, state, owner FROM queue LEFT JOIN message ON message.id = message_id"
PARAMETERS = """
    SELECT queue_id, message.parameters FROM message UNION ALL
    SELECT queue_id, queue.parameters FROM queue JOIN message ON message.id = message_id"""


def findings(
    connection: sqlite3.Connection, spool: Spool, now: float, step: Callable[[str], None]
) -> Iterator[Finding]:
    """Everything that is wrong, check by check."""
    for name, check in CHECKS.items():
        step(name)
        try:
            yield from check(connection, spool, now)
        except sqlite3.DatabaseError as error:  # what is damaged need not keep the rest from being looked at
            yield Finding("database", f"{name} cannot be checked: {error}")


def _pages(connection: sqlite3.Connection, _spool: Spool, _now: float) -> Iterator[Finding]:
    for (text,) in connection.execute("PRAGMA integrity_check"):
        if text != "ok":
            yield Finding("database", text)


def _references(connection: sqlite3.Connection, _spool: Spool, _now: float) -> Iterator[Finding]:
    for table, row_id, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield Finding(f"{table} row {row_id}", f"refers to a row of {parent} that is not there")


def _content(connection: sqlite3.Connection, spool: Spool, _now: float) -> Iterator[Finding]:
    suspect: list[tuple[str, int, str]] = []
    for queue_id, size, file, length in connection.execute(CONTENT):
        if file is None and length != size:
            yield Finding(f"message {queue_id}", f"{length} octets of content where {size} were stored")
        elif file is not None and not spool.is_whole(file, size):
            suspect.append((queue_id, size, file))
    for queue_id, size, file in suspect:  # after the query, whose moment is over: has it gone since?
        if _is_named(connection, file):
            yield Finding(f"message {queue_id}", f"spool file {file} {_file_fault(spool.path / file, size)}")


def _file_fault(path: Path, size: int) -> str:
    try:
        return f"has {path.stat().st_size} octets where {size} were stored"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _orphans(connection: sqlite3.Connection, spool: Spool, now: float) -> Iterator[Finding]:
    for path in sorted(spool.path.iterdir()):
        try:
            age = now - path.stat().st_mtime
        except FileNotFoundError:
            continue
        if age > YOUNG and not _is_named(connection, path.name) and path.exists():
            yield Finding(f"spool file {path.name}", "belongs to no message; the next start of the server removes it")


def _is_named(connection: sqlite3.Connection, file: str) -> bool:
    return connection.execute("SELECT 1 FROM message WHERE file = ?", (file,)).fetchone() is not None


def _abandoned(connection: sqlite3.Connection, _spool: Spool, _now: float) -> Iterator[Finding]:
    for (queue_id,) in connection.execute(ABANDONED):
        yield Finding(f"message {queue_id}", "is in no mailbox and in no queue")


def _sizes(connection: sqlite3.Connection, _spool: Spool, _now: float) -> Iterator[Finding]:
    for unique_id, told, true in connection.execute(SIZES):
        yield Finding(f"mailbox message {unique_id}", f"is told to have {told} octets and has {true}")


def _unique_ids(connection: sqlite3.Connection, _spool: Spool, _now: float) -> Iterator[Finding]:
    for unique_id, count in connection.execute(TWICE):
        yield Finding(f"mailbox message {unique_id}", f"{count} messages of one mailbox have this unique-id")


def _totals(connection: sqlite3.Connection, _spool: Spool, _now: float) -> Iterator[Finding]:
    for address, messages, octets, true_messages, true_octets in connection.execute(TOTALS):
        what = f"totals say {messages} messages, {octets} octets; there are {true_messages}, {true_octets}"
        yield Finding(f"account {address}", f"{what} (--repair counts anew)")


def _states(connection: sqlite3.Connection, _spool: Spool, _now: float) -> Iterator[Finding]:
    known = {str(state) for state in State}
    for row_id, queue_id, state, owner in connection.execute(STATES):
        where = f"queue row {row_id} of {queue_id}"
        if state not in known:
            yield Finding(where, f"has a state that there is none of: {state!r}")
        elif (state == State.CLAIMED) != bool(owner):
            yield Finding(where, f"is {state}, leased by {owner or 'nobody'!r}")


def _texts(connection: sqlite3.Connection, _spool: Spool, _now: float) -> Iterator[Finding]:
    for queue_id, text in connection.execute(PARAMETERS):
        try:
            unpack_parameters(text)
        except Undecodable as error:
            yield Finding(f"message {queue_id}", f"its parameters cannot be read: {error}")
    for queue_id, text in connection.execute("SELECT queue_id, entries FROM trace"):
        try:
            unpack_trace(text)
        except Undecodable as error:
            yield Finding(f"message {queue_id}", f"its trace cannot be read: {error}")


CHECKS: dict[str, Check] = {
    "the database's pages": _pages,
    "references between rows": _references,
    "content of messages": _content,
    "files without a message": _orphans,
    "messages without a place": _abandoned,
    "sizes": _sizes,
    "unique-ids": _unique_ids,
    "totals": _totals,
    "states of the queue": _states,
    "parameters and trace": _texts,
}
