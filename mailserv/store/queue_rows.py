"""Queue rows under a lease: claimed, settled, renewed, reclaimed. Each costs the same however long the queue is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from mailserv.logging import get_logger
from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.store.acceptance import INSERT_TRACE
from mailserv.store.codec import pack_trace
from mailserv.store.writer import Work

CLAIM = """
    UPDATE queue SET state = 'claimed', owner = ?, until = ? WHERE id IN (
        SELECT id FROM queue WHERE state = 'ready' AND transport = ? AND next_hop = ? AND not_before <= ?
        ORDER BY not_before, id LIMIT ?)
    RETURNING id, message_id, not_before"""
NEXT_DUE = """
    SELECT not_before FROM queue WHERE state = 'ready' AND transport = ? AND next_hop = ?
    ORDER BY not_before LIMIT 1"""
RENEW = "UPDATE queue SET until = ? WHERE state = 'claimed' AND owner = ?"
RECLAIM = """
    UPDATE queue INDEXED BY queue_claimed SET state = 'ready', owner = '', until = 0
    WHERE state = 'claimed' AND (owner = ? OR instr(owner, ? || '#') = 1 OR until <= ?) RETURNING transport, next_hop"""
QUARANTINE = """
    UPDATE queue SET state = 'quarantined', owner = '', until = 0
    WHERE id = ? AND state = 'claimed' AND owner = ?"""
# From the first row of one destination to the first of the next, by the index: a million rows for one dead smarthost cost
# no more than one (GROUP BY reads them all: 0.4 s, after each order of an operator).
DESTINATIONS = """
    WITH RECURSIVE first(id) AS (
        SELECT (SELECT id FROM queue WHERE state = 'ready' ORDER BY transport, next_hop, not_before LIMIT 1)
        UNION ALL
        SELECT coalesce(
            (SELECT id FROM queue AS later WHERE later.state = 'ready' AND later.transport = queue.transport
                AND later.next_hop > queue.next_hop ORDER BY later.next_hop, later.not_before LIMIT 1),
            (SELECT id FROM queue AS later WHERE later.state = 'ready' AND later.transport > queue.transport
                ORDER BY later.transport, later.next_hop, later.not_before LIMIT 1))
        FROM first JOIN queue ON queue.id = first.id)
    SELECT transport, next_hop, not_before FROM first JOIN queue ON queue.id = first.id"""

log = get_logger("store")


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim leased: (row id, message id), oldest due first; and when the next row is due."""

    rows: tuple[tuple[int, int], ...]
    next_due: float | None


def claim(work: Work, route: Route, owner: str, now: float, until: float, limit: int) -> Claimed:
    """Lease up to `limit` due rows. Reads no column that could be damaged: that is found out row by row, later."""
    execute = work.connection.execute
    leased = execute(CLAIM, (owner, until, route.transport, route.next_hop, now, limit)).fetchall()
    leased.sort(key=lambda row: (row[2], row[0]))
    next_due = execute(NEXT_DUE, (route.transport, route.next_hop)).fetchone()
    return Claimed(tuple((row[0], row[1]) for row in leased), next_due[0] if next_due else None)


def renew(work: Work, owner: str, until: float) -> None:
    work.connection.execute(RENEW, (until, owner))


def reclaim(work: Work, owner: str, now: float) -> int:
    """Take back what a former life left claimed, under any of its batches' names, and what ran out."""
    rows = work.connection.execute(RECLAIM, (owner, owner, now)).fetchall()
    work.queued.update(Route(*row) for row in rows)
    return len(rows)


def quarantine(work: Work, owner: str, queue_id: str, row_ids: Iterable[int], reason: str, now: float) -> int:
    """Set rows aside that are damaged, or whose message is. How many; 0 when their lease ran out meanwhile."""
    count = sum(work.connection.execute(QUARANTINE, (row_id, owner)).rowcount for row_id in row_ids)
    if count:
        entry = TraceEntry(now, "quarantined", detail={"reason": reason, "rows": count})
        work.connection.execute(INSERT_TRACE, (queue_id, now, pack_trace([entry])))
    return count


def destinations(connection: sqlite3.Connection) -> list[tuple[Route, float]]:
    """Every destination with ready rows, and when its first is due."""
    rows = connection.execute(DESTINATIONS).fetchall()
    return [(Route(transport, next_hop), due) for transport, next_hop, due in rows]
