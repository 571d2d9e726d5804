"""What an operator does to the queue: look, retry, hold, release, drop. A long queue is changed in small transactions."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from mailserv.mail.queue_state import State
from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.store.codec import pack_trace, unpack_address
from mailserv.store.interface import QueueEntry
from mailserv.store.references import release
from mailserv.store.writer import Work, Writer

BATCH = 50  # rows in one transaction: even if each frees 256 KiB of pages it stays under 100 ms

LIST_ALL = """
    SELECT queue.id, message.queue_id, state, reverse_path, forward_path, transport, next_hop, message.size,
        received_at, not_before, attempts, last_reply, login, remote
    FROM queue JOIN message ON message.id = queue.message_id WHERE queue.id > ? ORDER BY queue.id LIMIT ?"""
LIST_SOME = """
    SELECT queue.id, message.queue_id, state, reverse_path, forward_path, transport, next_hop, message.size,
        received_at, not_before, attempts, last_reply, login, remote
    FROM queue JOIN message ON message.id = queue.message_id
    WHERE message_id IN (SELECT id FROM message WHERE queue_id IN (SELECT value FROM json_each(?)))
    AND queue.id > ? ORDER BY queue.id LIMIT ?"""
# Each keyed by the row's id and walking upwards, so that one batch costs the same wherever it is in the queue.
BATCH_ALL = "SELECT id, message_id, state, transport, next_hop FROM queue WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
BATCH_SOME = """
    SELECT id, message_id, state, transport, next_hop FROM queue WHERE message_id IN (
        SELECT id FROM message WHERE queue_id IN (SELECT value FROM json_each(?)))
    AND id > ? AND id <= ? ORDER BY id LIMIT ?"""
BATCH_ROWS = """
    SELECT id, message_id, state, transport, next_hop FROM queue WHERE id IN (SELECT value FROM json_each(?))
    AND id > ? AND id <= ? ORDER BY id LIMIT ?"""
# Walks the queue inside SQLite (0.1 s for 100,000 rows): an index by domain would cost every message, for an ETRN a day.
WAITING = """
    SELECT id, message_id FROM queue WHERE state = 'ready'
    AND (substr(forward_path, -length(:domain)) = :domain OR substr(forward_path, -length(:below)) = :below)"""
# By the index's entries: 0.1 s for a million rows, which have the index's order and not that of their times.
LATE = "SELECT id, message_id FROM queue INDEXED BY queue_ready WHERE state = 'ready' AND not_before > ?"
# SQLite takes a partial index only where the query repeats its condition, so the ready rows are what is left over.
COUNTS = """
    SELECT (SELECT count(*) FROM queue),
        (SELECT count(*) FROM queue WHERE state = 'claimed'),
        (SELECT count(*) FROM queue WHERE state = 'held' AND state IN ('held', 'quarantined')),
        (SELECT count(*) FROM queue WHERE state = 'quarantined' AND state IN ('held', 'quarantined'))"""


@dataclass(frozen=True, slots=True)
class Order:
    """One thing an operator may do, to rows in one of `states`: `sql` changes the row :id at the time :now."""

    event: str
    states: frozenset[str]
    sql: str
    is_due: bool = False
    is_end: bool = False


RETRY = Order(
    event="retried",
    states=frozenset({State.READY}),
    sql="UPDATE queue SET not_before = :now WHERE id = :id",
    is_due=True,
)
HOLD = Order(
    event="held",
    states=frozenset({State.READY}),
    sql="UPDATE queue SET state = 'held' WHERE id = :id",
)
RELEASE = Order(
    event="released",
    states=frozenset({State.HELD, State.QUARANTINED}),
    sql="UPDATE queue SET state = 'ready', not_before = :now WHERE id = :id",
    is_due=True,
)
DROP = Order(
    event="dropped",
    states=frozenset({State.READY, State.HELD, State.QUARANTINED}),
    sql="DELETE FROM queue WHERE id = :id",
    is_end=True,
)


def carry_out(writer: Writer, order: Order, queue_ids: Sequence[str], now: float) -> int:
    """Do it to the rows there are now, all or those of some messages. How many rows changed. Raises StoreError."""
    batch = (BATCH_SOME, msgspec.json.encode(list(queue_ids)).decode()) if queue_ids else (BATCH_ALL,)
    return _in_batches(writer, order, batch, now)


def start(writer: Writer, waiting: Sequence[tuple[int, int]], now: float) -> int:
    """Rows that `waiting` or `late` found are due now. How many messages they were of. Raises StoreError."""
    for at in range(0, len(waiting), BATCH):
        row_ids = [row_id for row_id, _ in waiting[at : at + BATCH]]
        batch = (BATCH_ROWS, msgspec.json.encode(row_ids).decode())
        writer.run(_batch(RETRY, batch, 0, max(row_ids), now), frees=True)
    return len({message_id for _, message_id in waiting})


def waiting(connection: sqlite3.Connection, domain: str, *, subdomains: bool) -> list[tuple[int, int]]:
    """(row, message) of each ready row for recipients of a domain."""
    ends = {"domain": f"@{domain}", "below": f".{domain}" if subdomains else f"@{domain}"}
    return connection.execute(WAITING, ends).fetchall()


def late(connection: sqlite3.Connection, after: float) -> list[tuple[int, int]]:
    """(row, message) of each ready row that is due after that time, in the order of their ids."""
    return connection.execute(LATE, (after,)).fetchall()


def _in_batches(writer: Writer, order: Order, batch: tuple[str, ...], now: float) -> int:
    """`batch`: the query that finds rows, and its first value if it wants one."""
    last = writer.run(_last_row)
    after = changed = 0
    while after < last:
        after, count = writer.run(_batch(order, batch, after, last, now), frees=True)
        changed += count
    return changed


def _last_row(work: Work) -> int:
    last: int = work.connection.execute("SELECT coalesce(max(id), 0) FROM queue").fetchone()[0]
    return last


def _batch(
    order: Order, batch: tuple[str, ...], after: int, last: int, now: float
) -> Callable[[Work], tuple[int, int]]:
    sql, *wanted = batch

    def action(work: Work) -> tuple[int, int]:
        rows = work.connection.execute(sql, (*wanted, after, last, BATCH)).fetchall()
        chosen = [row for row in rows if row[2] in order.states]
        work.connection.executemany(order.sql, [{"now": now, "id": row[0]} for row in chosen])
        _note(work, order.event, [row[1] for row in chosen], now)
        if order.is_end:
            release(work, dict.fromkeys(row[1] for row in chosen))
        if order.is_due:
            work.queued.update(Route(row[3], row[4]) for row in chosen)
        return (rows[-1][0] if len(rows) == BATCH else last), len(chosen)

    return action


def _note(work: Work, event: str, message_ids: Sequence[int], now: float) -> None:
    """The operator's act in each message's trace, once for each batch. Before the rows, and with them the message, go."""
    for message_id, recipients in Counter(message_ids).items():
        entries = pack_trace([TraceEntry(now, event, detail={"recipients": recipients})])
        work.connection.execute(
            "INSERT INTO trace (queue_id, at, entries) SELECT queue_id, ?, ? FROM message WHERE id = ?",
            (now, entries, message_id),
        )


def entries(
    connection: sqlite3.Connection, queue_ids: Sequence[str], after: int = 0, limit: int = -1
) -> list[QueueEntry]:
    """The queue as an operator sees it, oldest row first."""
    part = (after, limit)
    if queue_ids:
        cursor = connection.execute(LIST_SOME, (msgspec.json.encode(list(queue_ids)).decode(), *part))
    else:
        cursor = connection.execute(LIST_ALL, part)
    return [
        QueueEntry(
            row_id=row_id,
            queue_id=queue_id,
            state=state,
            reverse_path=str(unpack_address(reverse_path)),
            forward_path=str(unpack_address(forward_path)),
            route=Route(transport, next_hop),
            size=size,
            received_at=received_at,
            not_before=not_before,
            attempts=attempts,
            last_reply=last_reply,
            login=login,
            remote=remote,
        )
        for (
            row_id,
            queue_id,
            state,
            reverse_path,
            forward_path,
            transport,
            next_hop,
            size,
            received_at,
            not_before,
            attempts,
            last_reply,
            login,
            remote,
        ) in cursor
    ]


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Rows in each state that a row in the queue may have. Counts an index's entries: some 20 ms for a million rows."""
    rows, claimed, held, quarantined = connection.execute(COUNTS).fetchone()
    return {
        str(State.READY): rows - claimed - held - quarantined,
        str(State.CLAIMED): claimed,
        str(State.HELD): held,
        str(State.QUARANTINED): quarantined,
    }
