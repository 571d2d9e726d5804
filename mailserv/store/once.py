"""Messages that are accepted once: their keys stand in the table of plugins' values, under no plugin's name.

A key is written in the transaction that accepts its message, so a crash leaves both or neither (invariant 2).
"""

from __future__ import annotations

import sqlite3

from mailserv.mail.message import Once
from mailserv.store.plugin_tables import GET, PUT

NOBODY = ""  # no plugin has this name, so none reads or expires these but the server, once a day


def made(connection: sqlite3.Connection, key: str, now: float) -> str | None:
    """The queue id of the message that was accepted with this key, as long as it is remembered."""
    row = connection.execute(GET, (NOBODY, key, now)).fetchone()
    return None if row is None else str(row[0])


def remember(connection: sqlite3.Connection, once: Once, queue_id: str) -> None:
    """In the transaction that accepts it."""
    connection.execute(PUT, (NOBODY, once.key, queue_id, once.until))
