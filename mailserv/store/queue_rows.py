"""Queue rows under a lease: claimed, settled, renewed, reclaimed. Each costs the same however long the queue is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mailserv.logging import get_logger
from mailserv.mail.queue_state import State
from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.store.acceptance import INSERT_TRACE, Prepared, insert
from mailserv.store.codec import pack_trace
from mailserv.store.interface import Settlement
from mailserv.store.references import release
from mailserv.store.writer import Work

CLAIM = """
    UPDATE queue SET state = 'claimed', owner = ?, until = ? WHERE id IN (
        SELECT id FROM queue WHERE state = 'ready' AND transport = ? AND next_hop = ? AND not_before <= ?
        ORDER BY not_before, id LIMIT ?)
    RETURNING id, message_id, not_before"""
NEXT_DUE = """
    SELECT not_before FROM queue WHERE state = 'ready' AND transport = ? AND next_hop = ?
    ORDER BY not_before LIMIT 1"""
IS_OURS = "SELECT 1 FROM queue WHERE id = ? AND state = 'claimed' AND owner = ?"
SETTLE = """
    UPDATE queue SET state = ?, owner = '', until = 0, not_before = ?, attempts = attempts + ?,
        last_reply = coalesce(?, last_reply), remote = coalesce(?, remote), delay_notified = ?
    WHERE id = ? AND state = 'claimed' AND owner = ? RETURNING transport, next_hop"""
FINISH = "DELETE FROM queue WHERE id = ? AND state = 'claimed' AND owner = ? RETURNING message_id"
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

ENDS = frozenset({State.DONE, State.FAILED})

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


def settle(
    work: Work,
    owner: str,
    settlements: Sequence[Settlement],
    bounces: Sequence[Prepared],
    trace: Sequence[tuple[str, float, str]],
    now: float,
) -> int:
    """Write what became of rows; trace rows only if any of them changed. Returns how many were still `owner`'s.

    A bounce tells of rows that failed or are late: were one of them another's by now, it might yet be delivered. Then
    only the done ones are settled, the bounces are not sent, and the lease's end brings the others back.
    """
    if bounces and not _are_ours(work, owner, settlements):
        log.warning("store_bounce_withheld", rows=[each.row.row_id for each in settlements])
        work.files.extend(bounce.file for bounce in bounces if bounce.file)
        settlements = [each for each in settlements if each.state == State.DONE]
        return sum(_settle_one(work, owner, each, now) for each in settlements)
    changed = sum(_settle_one(work, owner, each, now) for each in settlements)
    for bounce in bounces:
        insert(work, bounce, is_bounce=True)
    if changed or not settlements:
        work.connection.executemany(INSERT_TRACE, trace)
    return changed


def _are_ours(work: Work, owner: str, settlements: Sequence[Settlement]) -> bool:
    execute = work.connection.execute
    return all(
        execute(IS_OURS, (each.row.row_id, owner)).fetchone() for each in settlements if each.state != State.DONE
    )


def _settle_one(work: Work, owner: str, settlement: Settlement, now: float) -> bool:
    """Whether the row was still ours."""
    row = settlement.row
    if settlement.state in ENDS:
        gone = work.connection.execute(FINISH, (row.row_id, owner)).fetchall()
        release(work, (message_id for (message_id,) in gone))
        return bool(gone)
    kept = work.connection.execute(
        SETTLE,
        (
            str(settlement.state),
            settlement.not_before,
            int(settlement.counts_attempt),
            str(settlement.reply) if settlement.reply is not None else None,
            settlement.remote or None,
            int(row.delay_notified or settlement.delay_notified),
            row.row_id,
            owner,
        ),
    ).fetchall()
    if settlement.state == State.READY and settlement.not_before <= now:
        work.queued.update(Route(*each) for each in kept)
    return bool(kept)


def check_states(settlements: Sequence[Settlement]) -> None:
    """Raises ValueError for a state that no settlement leads to."""
    for each in settlements:
        if each.state not in ENDS and each.state not in {State.READY, State.HELD}:
            raise ValueError(f"a row cannot be settled as {each.state!r}")


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
