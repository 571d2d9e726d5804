"""What a mailbox holds at one moment, as POP3 numbers it; the same again where nothing has changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple


class MaildropMessage(NamedTuple):
    """One message of a maildrop as POP3 numbers it. A tuple: 100,000 of them are made at a login, in a third of the time.

    `size` are octets as RETR sends them before dot-stuffing.
    `unique_id`: 1–70 characters 0x21–0x7E, never used again (RFC 1939 §7). `is_utf8`: it came with SMTPUTF8, and its
    header section is not ASCII.
    """

    unique_id: str
    size: int
    row_id: int
    is_utf8: bool = False


class State(NamedTuple):
    """Of a mailbox. Two equal ones mean the same messages.

    Ids grow and are never used again. So where the last one is the same nothing came that is still there, and where
    there are as many as before nothing has gone. That holds for the rows, and for the deletions that are promised.
    """

    account_id: int
    promises: int
    last_promise: int
    rows: int
    last_row: int

    def grew_to(self, now: State) -> bool:
        """Whether nothing is different but rows, perhaps new ones only."""
        return self[:3] == now[:3]


@dataclass(frozen=True, slots=True)
class Listing:
    """`messages`: oldest first, without what is deleted and only waits to be removed. Never changes."""

    messages: Sequence[MaildropMessage]
    state: State | None = None  # None: no such account


STATE = """
    SELECT account.id,
        (SELECT count(*) FROM deletion WHERE account_id = account.id),
        (SELECT coalesce(max(id), 0) FROM deletion WHERE account_id = account.id),
        (SELECT count(*) FROM mailbox WHERE account_id = account.id),
        (SELECT coalesce(max(id), 0) FROM mailbox WHERE account_id = account.id)
    FROM account WHERE address = ? AND gone = 0"""
LIST = "SELECT unique_id, size, id, utf8 FROM mailbox WHERE account_id = ? AND id > ? ORDER BY id"
PROMISED = "SELECT value FROM deletion, json_each(deletion.row_ids) WHERE account_id = ?"


def listing(connection: sqlite3.Connection, address: str, known: Listing | None = None) -> Listing:
    """`known`: an earlier one of this mailbox. It is returned when it is still true; of new mail only that is read."""
    with _one_moment(connection):
        row = connection.execute(STATE, (address,)).fetchone()
        if row is None:
            return Listing([])
        state = State._make(row)
        if known is not None and known.state is not None and known.state.grew_to(state):
            if known.state == state:
                return known
            new = _rows(connection, state, known.state.last_row)
            if known.state.rows + len(new) == state.rows:
                return Listing([*known.messages, *new], state)
        return Listing(_rows(connection, state, 0), state)


def _rows(connection: sqlite3.Connection, state: State, after: int) -> list[MaildropMessage]:
    rows = map(MaildropMessage._make, connection.execute(LIST, (state.account_id, after)))
    if not state.promises:
        return list(rows)
    promised = {row_id for (row_id,) in connection.execute(PROMISED, (state.account_id,))}
    return [row for row in rows if row.row_id not in promised]


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is read in here is of one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")  # nothing was written
