"""Accounts: who has a mailbox and a login here. Addresses are canonical (`Address.key`)."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Mapping

from mailserv.errors import DuplicateError
from mailserv.store.connection import Readers
from mailserv.store.interface import Account
from mailserv.store.references import release
from mailserv.store.writer import Work, Writer

INSERT = "INSERT INTO account (address, password_hash, created_at) VALUES (?, ?, ?)"
LIST = "SELECT address, created_at FROM account WHERE gone = 0 ORDER BY address"
EXISTS = "SELECT 1 FROM account WHERE address = ? AND gone = 0"
READ_HASH = "SELECT password_hash FROM account WHERE address = ? AND gone = 0"
WRITE_HASH = "UPDATE account SET password_hash = ? WHERE address = ? AND gone = 0"
WRITE_VERIFIER = """
    INSERT OR REPLACE INTO verifier (account_id, mechanism, value)
    SELECT id, ?, ? FROM account WHERE address = ? AND password_hash = ? AND gone = 0"""
FORGET_VERIFIERS = """
    DELETE FROM verifier WHERE account_id IN (SELECT id FROM account WHERE address = ? AND gone = 0)"""
READ_VERIFIER = """
    SELECT value FROM verifier WHERE mechanism = ?
    AND account_id = (SELECT id FROM account WHERE address = ? AND gone = 0)"""
MARK_GONE = "UPDATE account SET gone = 1 WHERE address = ? AND gone = 0 RETURNING id"
EMPTY = """
    DELETE FROM mailbox WHERE id IN (SELECT id FROM mailbox WHERE account_id = ? ORDER BY id LIMIT ?)
    RETURNING message_id"""
FORGET_IMPORTED = """
    DELETE FROM imported WHERE (account_id, key) IN (SELECT account_id, key FROM imported WHERE account_id = ? LIMIT ?)"""
FINISH = "DELETE FROM account WHERE id = ?"

BATCH = 50  # messages in one transaction: even if each frees 256 KiB of pages it stays under 100 ms
KEYS = 2000  # of imported messages, in one transaction: some milliseconds


class Known:
    """The addresses of all accounts, in memory: one look-up for each RCPT. Any thread.

    An address that is missing here is asked of the database, so an account that another process just made counts at
    once. One that another process removed goes when it says so (`refresh`, by the nudge).
    """

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._lock = threading.Lock()  # so that an older reading never replaces a newer one
        self._addresses: frozenset[str] = frozenset()

    def refresh(self) -> None:
        """Read them anew. Raises StoreError."""
        with self._lock, self._readers.connection() as connection:
            self._addresses = frozenset(address for address, _ in connection.execute(LIST))

    def has(self, address: str) -> bool:
        """Raises StoreError."""
        if address in self._addresses:
            return True
        with self._readers.connection() as connection:
            is_new = connection.execute(EXISTS, (address,)).fetchone() is not None
        if is_new:
            self.refresh()
        return is_new


def add(work: Work, address: str, password_hash: str, now: float, verifiers: Mapping[str, str]) -> None:
    """Raises DuplicateError."""
    try:
        work.connection.execute(INSERT, (address, password_hash, now))
    except sqlite3.IntegrityError as error:
        raise DuplicateError(f"{address}: there is such an account") from error
    for mechanism, value in verifiers.items():
        keep_verifier(work, address, mechanism, value, password_hash)


def set_password(work: Work, address: str, password_hash: str, verifiers: Mapping[str, str]) -> bool:
    """A verifier of the old password would be a second way in, so all of them go."""
    work.connection.execute(FORGET_VERIFIERS, (address,))
    is_there = work.connection.execute(WRITE_HASH, (password_hash, address)).rowcount > 0
    for mechanism, value in verifiers.items():
        keep_verifier(work, address, mechanism, value, password_hash)
    return is_there


def keep_verifier(work: Work, address: str, mechanism: str, value: str, password_hash: str) -> None:
    """Unless the account has another password by now."""
    work.connection.execute(WRITE_VERIFIER, (mechanism, value, address, password_hash))


def mark_gone(work: Work, address: str) -> int | None:
    """From this commit on there is no such account. Its id, for `empty`."""
    work.connection.execute(FORGET_VERIFIERS, (address,))
    row = work.connection.execute(MARK_GONE, (address,)).fetchall()
    return row[0][0] if row else None


def empty(writer: Writer, account_id: int) -> None:
    """Delete the mailbox of an account that is marked gone, in small transactions, and then its row."""
    while writer.run(_empty_some(account_id), frees=True):
        pass


def _empty_some(account_id: int) -> Callable[[Work], bool]:
    def action(work: Work) -> bool:
        gone = work.connection.execute(EMPTY, (account_id, BATCH)).fetchall()
        release(work, dict.fromkeys(message_id for (message_id,) in gone))
        if len(gone) == BATCH:
            return True
        if work.connection.execute(FORGET_IMPORTED, (account_id, KEYS)).rowcount == KEYS:
            return True
        work.connection.execute(FINISH, (account_id,))
        return False

    return action


def unfinished(connection: sqlite3.Connection) -> list[int]:
    """Ids of accounts whose removal a crash cut short."""
    return [row[0] for row in connection.execute("SELECT id FROM account WHERE gone = 1")]


def listing(connection: sqlite3.Connection) -> list[Account]:
    return [Account(*row) for row in connection.execute(LIST)]


def password_hash(connection: sqlite3.Connection, address: str) -> str | None:
    row = connection.execute(READ_HASH, (address,)).fetchone()
    return row[0] if row else None


def verifier(connection: sqlite3.Connection, address: str, mechanism: str) -> str | None:
    row = connection.execute(READ_VERIFIER, (mechanism, address)).fetchone()
    return row[0] if row else None
