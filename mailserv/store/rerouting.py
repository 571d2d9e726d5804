"""Rows of the queue that get another way out, because an operator's settings have another one for them now."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.store.acceptance import INSERT_TRACE
from mailserv.store.codec import pack_trace
from mailserv.store.interface import QueueEntry
from mailserv.store.queue_admin import BATCH
from mailserv.store.writer import Work, Writer

# Not those that are being delivered, nor those that have been changed since they were looked at.
REROUTE = """
    UPDATE queue SET transport = ?, next_hop = ?, not_before = CASE state WHEN 'ready' THEN ? ELSE not_before END
    WHERE id = ? AND transport = ? AND next_hop = ? AND state IN ('ready', 'held', 'quarantined') RETURNING state"""

Moves = Sequence[tuple[QueueEntry, Route]]


def reroute(writer: Writer, moves: Moves, now: float) -> int:
    """See `Store.queue_reroute`. In small transactions."""
    return sum(writer.run(_some(moves[at : at + BATCH], now), frees=True) for at in range(0, len(moves), BATCH))


def _some(moves: Moves, now: float) -> Callable[[Work], int]:
    return lambda work: sum(_move(work, entry, route, now) for entry, route in moves)


def _move(work: Work, entry: QueueEntry, route: Route, now: float) -> bool:
    before, execute = entry.route, work.connection.execute
    values = (route.transport, route.next_hop, now, entry.row_id, before.transport, before.next_hop)
    moved = execute(REROUTE, values).fetchall()
    if moved:
        trace = TraceEntry(now, "rerouted", entry.forward_path, {"from": str(before), "to": str(route)})
        execute(INSERT_TRACE, (entry.queue_id, now, pack_trace([trace])))
    if moved == [("ready",)]:
        work.queued.add(route)
    return bool(moved)
