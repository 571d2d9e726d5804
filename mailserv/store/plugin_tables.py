"""Plugins' own tables: keys and texts or counts, each until it expires (`mailserv.mail.plugin.Table`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from mailserv.clock import Clock
from mailserv.store.connection import Readers
from mailserv.store.writer import Work, Writer

GET = "SELECT value FROM plugin_value WHERE plugin = ? AND key = ? AND expires_at > ?"
ITEMS = """
    SELECT key, value FROM plugin_value WHERE plugin = ? AND key >= ? AND expires_at > ? ORDER BY key LIMIT ?"""
PUT = """
    INSERT INTO plugin_value (plugin, key, value, expires_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (plugin, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at"""
INCREMENT = """
    INSERT INTO plugin_value (plugin, key, value, expires_at) VALUES (:plugin, :key, :by, :expires_at)
    ON CONFLICT (plugin, key) DO UPDATE SET
        value = excluded.value + CASE WHEN expires_at > :now THEN value ELSE 0 END,
        expires_at = CASE WHEN expires_at > :now THEN expires_at ELSE excluded.expires_at END
    RETURNING value"""
DELETE = "DELETE FROM plugin_value WHERE plugin = ? AND key = ?"
EXPIRE_OWN = """
    DELETE FROM plugin_value WHERE (plugin, key) IN
    (SELECT plugin, key FROM plugin_value WHERE expires_at <= ? AND plugin = ? LIMIT ?)"""
EXPIRE = """
    DELETE FROM plugin_value WHERE (plugin, key) IN
    (SELECT plugin, key FROM plugin_value WHERE expires_at <= ? LIMIT ?)"""

BATCH = 500  # rows in one transaction: some milliseconds, so that nobody's mail waits for it


class PluginTable:
    """One plugin's rows of the one table. Any thread. Writing shares a commit with all that waits at that moment."""

    def __init__(self, plugin: str, writer: Writer, readers: Readers, clock: Clock) -> None:
        self._plugin = plugin
        self._writer = writer
        self._readers = readers
        self._clock = clock

    def get(self, key: str) -> str | None:
        """The value, None when there is none or it has expired. Raises StoreError."""
        with self._readers.connection() as connection:
            row = connection.execute(GET, (self._plugin, key, self._clock.now())).fetchone()
        return None if row is None else str(row[0])

    def items(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Keys that begin so, and their values; read BATCH by BATCH, each as it is then. Raises StoreError."""
        start = prefix
        while True:
            with self._readers.connection() as connection:
                rows = connection.execute(ITEMS, (self._plugin, start, self._clock.now(), BATCH)).fetchall()
            for key, value in rows:
                if not key.startswith(prefix):
                    return
                yield key, str(value)
            if len(rows) < BATCH:
                return
            start = rows[-1][0] + "\0"  # the next key that there can be

    def put(self, key: str, value: str, expires_at: float) -> None:
        """Set it. Raises StoreError."""
        self._write(PUT, (self._plugin, key, value, expires_at))

    def increment(self, key: str, by: int, expires_at: float) -> int:
        """Add, and the sum. What has expired begins at 0 again. Raises StoreError."""
        values = {
            "plugin": self._plugin,
            "key": key,
            "by": by,
            "expires_at": expires_at,
            "now": self._clock.now(),
        }

        def action(work: Work) -> int:
            ((count,),) = work.connection.execute(INCREMENT, values).fetchall()
            return int(count)

        return self._writer.run(action)

    def delete(self, key: str) -> None:
        """Forget it. Raises StoreError."""
        self._write(DELETE, (self._plugin, key))

    def delete_expired(self) -> int:
        """Give back the room of what has expired, in small transactions. How many rows. Raises StoreError."""
        return _expire(self._writer, EXPIRE_OWN, (self._clock.now(), self._plugin, BATCH))

    def _write(self, sql: str, values: tuple[str | float, ...]) -> None:
        def action(work: Work) -> sqlite3.Cursor:
            return work.connection.execute(sql, values)

        self._writer.run(action)


def expire(writer: Writer, now: float) -> int:
    """The same for all plugins, also those that are no longer there."""
    return _expire(writer, EXPIRE, (now, BATCH))


def _expire(writer: Writer, sql: str, values: tuple[str | float, ...]) -> int:
    count = 0
    while True:
        gone = writer.run(lambda work: work.connection.execute(sql, values).rowcount)
        count += gone
        if gone < BATCH:
            return count
