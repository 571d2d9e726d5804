"""The tables, and how an older database becomes the present one (sqlite-utils' migrations).

Ids are AUTOINCREMENT: without it SQLite hands a deleted row's id out again, and a lease, a unique-id or a settlement
would then name a stranger's row. Every index is read by a hot query; partial ones stay as small as what they are for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from sqlite_utils import Database, Migrations

from mailserv.errors import StoreUnavailable

migrations = Migrations("mailserv")

_FIRST = (
    # `gone`: removed, but its mailbox is still being emptied in small transactions.
    """CREATE TABLE account (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        address TEXT NOT NULL,
        password_hash TEXT NOT NULL,
        created_at REAL NOT NULL,
        gone INTEGER NOT NULL DEFAULT 0
    )""",
    "CREATE UNIQUE INDEX account_address ON account(address) WHERE gone = 0",
    # One row for each message, for as long as a mailbox or queue row refers to it. `file` names its spool file, or is
    # NULL and the bytes are in `content`: the last column, so that no other one is read through its overflow pages.
    """CREATE TABLE message (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue_id TEXT NOT NULL UNIQUE,
        reverse_path TEXT NOT NULL,
        parameters TEXT NOT NULL,
        received_at REAL NOT NULL,
        login TEXT NOT NULL,
        peer_ip TEXT NOT NULL,
        size INTEGER NOT NULL,
        file TEXT,
        content BLOB
    )""",
    "CREATE INDEX message_file ON message(file) WHERE file IS NOT NULL",
    """CREATE TABLE mailbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        account_id INTEGER NOT NULL REFERENCES account(id),
        message_id INTEGER NOT NULL REFERENCES message(id),
        recipient TEXT NOT NULL,
        unique_id TEXT NOT NULL,
        size INTEGER NOT NULL,
        prefix BLOB NOT NULL
    )""",
    "CREATE UNIQUE INDEX mailbox_once ON mailbox(message_id, account_id, recipient)",
    "CREATE INDEX mailbox_by_account ON mailbox(account_id)",
    # `state`: ready, claimed (leased by `owner` until `until`), held, quarantined.
    """CREATE TABLE queue (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        message_id INTEGER NOT NULL REFERENCES message(id),
        state TEXT NOT NULL,
        transport TEXT NOT NULL,
        next_hop TEXT NOT NULL,
        not_before REAL NOT NULL,
        owner TEXT NOT NULL DEFAULT '',
        until REAL NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        delay_notified INTEGER NOT NULL DEFAULT 0,
        forward_path TEXT NOT NULL,
        original TEXT NOT NULL,
        parameters TEXT NOT NULL,
        last_reply TEXT NOT NULL DEFAULT '',
        remote TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX queue_ready ON queue(transport, next_hop, not_before) WHERE state = 'ready'",
    "CREATE INDEX queue_claimed ON queue(owner) WHERE state = 'claimed'",
    "CREATE INDEX queue_aside ON queue(state) WHERE state IN ('held', 'quarantined')",
    "CREATE INDEX queue_by_message ON queue(message_id)",
    "CREATE TABLE doomed (message_id INTEGER PRIMARY KEY)",  # gone since 0003_mailboxes
    # No reference to message: a trace outlives it. `entries`: a JSON list.
    """CREATE TABLE trace (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue_id TEXT NOT NULL,
        at REAL NOT NULL,
        entries TEXT NOT NULL
    )""",
    "CREATE INDEX trace_by_message ON trace(queue_id)",
    "CREATE INDEX trace_by_time ON trace(at)",
)


@migrations(name="0001_first")
def _first(db: Database) -> None:
    for statement in _FIRST:
        db.conn.execute(statement)


@migrations(name="0002_plugin_values")
def _plugin_values(db: Database) -> None:
    """What plugins keep: texts, and counts as integers."""
    db.conn.execute(
        """CREATE TABLE plugin_value (
            plugin TEXT NOT NULL,
            key TEXT NOT NULL,
            value NOT NULL,
            expires_at REAL NOT NULL,
            PRIMARY KEY (plugin, key)
        ) WITHOUT ROWID"""
    )
    db.conn.execute("CREATE INDEX plugin_value_by_time ON plugin_value(expires_at)")


_MAILBOXES = (
    # `row_ids`: a JSON list of mailbox rows that are deleted already as far as anybody is told, and go in small
    # transactions; one row here is the work of one of them.
    "CREATE TABLE deletion (id INTEGER PRIMARY KEY AUTOINCREMENT, account_id INTEGER NOT NULL, row_ids TEXT NOT NULL)",
    "CREATE INDEX deletion_by_account ON deletion(account_id)",
    """DELETE FROM message WHERE id IN (SELECT message_id FROM doomed)
        AND NOT EXISTS (SELECT 1 FROM queue WHERE message_id = message.id)
        AND NOT EXISTS (SELECT 1 FROM mailbox WHERE message_id = message.id)""",
    "DROP TABLE doomed",  # what `deletion` is now; the files are collected at the start
    # `arrived_at`: NULL for what was received here; an imported message is older than its place in the mailbox.
    "ALTER TABLE mailbox ADD COLUMN arrived_at REAL",
    "ALTER TABLE mailbox ADD COLUMN retrieved_at REAL",
    "CREATE INDEX mailbox_retrieved ON mailbox(account_id, retrieved_at) WHERE retrieved_at IS NOT NULL",
    # What is in the mailbox. `warned`: 0, or its owner was told that it is nearly full, and will be told anew when it
    # has been below so many octets.
    "ALTER TABLE account ADD COLUMN messages INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE account ADD COLUMN octets INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE account ADD COLUMN warned INTEGER NOT NULL DEFAULT 0",
    """UPDATE account SET (messages, octets) =
        (SELECT count(*), coalesce(sum(size), 0) FROM mailbox WHERE account_id = account.id)""",
    # Triggers, since then no way into or out of a mailbox can forget the totals (1 µs a message).
    """CREATE TRIGGER mailbox_filled AFTER INSERT ON mailbox BEGIN
        UPDATE account SET messages = messages + 1, octets = octets + NEW.size WHERE id = NEW.account_id;
    END""",
    """CREATE TRIGGER mailbox_emptied AFTER DELETE ON mailbox BEGIN
        UPDATE account SET messages = messages - 1, octets = octets - OLD.size,
            warned = CASE WHEN octets - OLD.size < warned THEN 0 ELSE warned END
        WHERE id = OLD.account_id;
    END""",
    # What `mailserv mailbox import` has brought, so that nothing comes twice.
    """CREATE TABLE imported (
        account_id INTEGER NOT NULL,
        key BLOB NOT NULL,
        PRIMARY KEY (account_id, key)
    ) WITHOUT ROWID""",
)


@migrations(name="0003_mailboxes")
def _mailboxes(db: Database) -> None:
    """Deletions in small transactions, totals, what retention and import need."""
    for statement in _MAILBOXES:
        db.conn.execute(statement)


@migrations(name="0004_verifiers")
def _verifiers(db: Database) -> None:
    """What SASL mechanisms keep of passwords. Accounts that are there have none until their password is given or set."""
    db.conn.execute(
        """CREATE TABLE verifier (
            account_id INTEGER NOT NULL REFERENCES account(id),
            mechanism TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (account_id, mechanism)
        ) WITHOUT ROWID"""
    )


@migrations(name="0005_utf8")
def _utf8(db: Database) -> None:
    """Which messages are internationalised (RFC 6532): noted once, so that a listing need not look."""
    db.conn.execute("ALTER TABLE mailbox ADD COLUMN utf8 INTEGER NOT NULL DEFAULT 0")


def migrate(connection: sqlite3.Connection, is_used: Callable[[], bool] = lambda: False) -> None:
    """Bring the database to this version's schema, in one transaction. Raises sqlite3.Error, StoreUnavailable.

    `is_used`: by a server of an older version, below which nothing is changed; asked only where there is something.

    A database that a newer mailserv has changed is refused: an old program could only damage it.
    """
    db = Database(connection, execute_plugins=False)
    known = {migration.name for migration in migrations.pending(db)}
    applied = {migration.name for migration in migrations.applied(db)}
    if unknown := applied - _names():
        raise StoreUnavailable(f"made by a newer mailserv (it knows {', '.join(sorted(unknown))}): upgrade this one")
    if not known:
        return
    if applied and is_used():
        raise StoreUnavailable("the server that runs here is of an older version than this command: restart it first")
    connection.execute("BEGIN IMMEDIATE")  # two processes that start together: one migrates, one waits
    try:
        migrations.apply(db)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _names() -> set[str]:
    empty = Database(memory=True, execute_plugins=False)
    try:
        return {migration.name for migration in migrations.pending(empty)}
    finally:
        empty.close()
