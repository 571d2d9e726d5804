"""Claimed rows become deliveries. What is damaged is told apart, message by message, and holds nothing else up."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.message import BytesContent, Content
from mailserv.mail.route import Route
from mailserv.store.codec import Undecodable, unpack_address, unpack_parameters
from mailserv.store.connection import Readers
from mailserv.store.content import Damaged, is_damage, read_content
from mailserv.store.queue_rows import Claimed
from mailserv.store.spool import Spool

READ_HEAD = "SELECT queue_id, reverse_path, parameters, received_at, login, peer_ip FROM message WHERE id = ?"
READ_ROW = """
    SELECT forward_path, original, parameters, attempts, delay_notified FROM queue WHERE id = ?"""

OPEN = """
    SELECT queue.id, message_id, transport, next_hop FROM queue JOIN message ON message.id = queue.message_id
    WHERE message.queue_id = ? AND state IN ('ready', 'held', 'quarantined') ORDER BY queue.id"""


@dataclass(frozen=True, slots=True)
class Broken:
    """Rows that cannot be delivered before an operator has looked. `queue_id` is "" when not even that is readable."""

    queue_id: str
    row_ids: tuple[int, ...]
    reason: str


def load(readers: Readers, spool: Spool, route: Route, claimed: Claimed) -> tuple[list[Delivery], list[Broken]]:
    """One Delivery for each message, in the order in which its first row is due. Raises StoreError."""
    by_message: dict[int, list[int]] = {}
    for row_id, message_id in claimed.rows:
        by_message.setdefault(message_id, []).append(row_id)
    deliveries: list[Delivery] = []
    broken: list[Broken] = []
    with readers.connection() as connection:
        for message_id, row_ids in by_message.items():
            delivery = _load_message(connection, readers, spool, route, message_id, row_ids, broken)
            if delivery is not None:
                deliveries.append(delivery)
    return deliveries, broken


def load_open(readers: Readers, spool: Spool, queue_id: str) -> Delivery | None:
    """The rows of a message that nobody is delivering, whatever their destinations; None when there are none. What is
    damaged is left out: rows, and the content. Raises StoreError."""
    with readers.connection() as connection:
        found = connection.execute(OPEN, (queue_id,)).fetchall()
        if not found:
            return None
        _, message_id, *route = found[0]
        row_ids = [row[0] for row in found]
        return _load_message(connection, readers, spool, Route(*route), message_id, row_ids, [], BytesContent(b""))


def _load_message(
    connection: sqlite3.Connection,
    readers: Readers,
    spool: Spool,
    route: Route,
    message_id: int,
    row_ids: list[int],
    broken: list[Broken],
    instead: Content | None = None,
) -> Delivery | None:
    """`instead`: of content that is damaged."""
    queue_id = ""
    try:
        head = connection.execute(READ_HEAD, (message_id,)).fetchone()
        if head is None:
            raise Damaged("the message's row is missing")
        queue_id, reverse_path, parameters, received_at, login, peer_ip = head
        content = _content(connection, readers, spool, message_id, instead)
        mail_parameters = unpack_parameters(parameters)
    except (Damaged, sqlite3.Error, *Undecodable) as error:
        broken.append(Broken(queue_id, tuple(row_ids), _reason(error)))
        return None
    rows = _load_rows(connection, queue_id, row_ids, broken)
    if not rows:
        return None
    return Delivery(
        queue_id=queue_id,
        reverse_path=unpack_address(reverse_path),
        parameters=mail_parameters,
        content=content,
        received_at=received_at,
        login=login,
        route=route,
        rows=rows,
        peer_ip=peer_ip,
    )


def _content(
    connection: sqlite3.Connection, readers: Readers, spool: Spool, message_id: int, instead: Content | None
) -> Content:
    try:
        content = read_content(connection, readers, spool, message_id)
        if content is None:
            raise Damaged("the message's row is missing")
    except (Damaged, sqlite3.Error) as error:
        if instead is None:
            raise
        _reason(error)
        return instead
    return content


def _load_rows(
    connection: sqlite3.Connection, queue_id: str, row_ids: list[int], broken: list[Broken]
) -> tuple[QueuedRow, ...]:
    rows = []
    for row_id in row_ids:
        try:
            row = connection.execute(READ_ROW, (row_id,)).fetchone()
            if row is None:
                raise Damaged("the queue row is missing")
            forward_path, original, parameters, attempts, delay_notified = row
            rows.append(
                QueuedRow(
                    row_id=row_id,
                    forward_path=unpack_address(forward_path),
                    original=unpack_address(original),
                    parameters=unpack_parameters(parameters),
                    attempts=attempts,
                    delay_notified=bool(delay_notified),
                )
            )
        except (Damaged, sqlite3.Error, *Undecodable) as error:
            broken.append(Broken(queue_id, (row_id,), _reason(error)))
    return tuple(rows)


def _reason(error: Exception) -> str:
    """Why something is broken; raises again what is no damage (a disk or a lock in the way): that may pass."""
    if isinstance(error, sqlite3.Error) and not is_damage(error):
        raise error
    return str(error)
