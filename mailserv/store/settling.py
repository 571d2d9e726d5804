"""What becomes of queue rows: settled by who claimed them, or given up by an operator, with the bounces in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mailserv.errors import StorageFull, StoreUnavailable
from mailserv.logging import get_logger
from mailserv.mail.delivery import QueuedRow
from mailserv.mail.message import Acceptance
from mailserv.mail.queue_state import State
from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.store.acceptance import INSERT_TRACE, Prepared, insert, prepare, with_bounces
from mailserv.store.interface import Settlement
from mailserv.store.references import release
from mailserv.store.spool import Spool
from mailserv.store.trace import rows_of
from mailserv.store.writer import Work, Writer

IS_OURS = "SELECT 1 FROM queue WHERE id = ? AND state = 'claimed' AND owner = ?"
SETTLE = """
    UPDATE queue SET state = ?, owner = '', until = 0, not_before = ?, attempts = attempts + ?,
        last_reply = coalesce(?, last_reply), remote = coalesce(?, remote), delay_notified = ?
    WHERE id = ? AND state = 'claimed' AND owner = ? RETURNING transport, next_hop"""
FINISH = "DELETE FROM queue WHERE id = ? AND state = 'claimed' AND owner = ? RETURNING message_id"
IS_OPEN = "SELECT 1 FROM queue WHERE id = ? AND state IN ('ready', 'held', 'quarantined')"
GIVE_UP = "DELETE FROM queue WHERE id = ? RETURNING message_id"

ENDS = frozenset({State.DONE, State.FAILED})

log = get_logger("store")
Trace = Iterable[tuple[str, TraceEntry]]


def settle(
    writer: Writer,
    spool: Spool,
    owner: str,
    settlements: Sequence[Settlement],
    bounces: Sequence[Acceptance],
    trace: Trace,
    *,
    now: float,
    wait: bool,
) -> None:
    """See `Store.settle`."""
    _check_states(settlements)
    prepared = [prepare(each, spool) for each in bounces]
    rows = rows_of(trace)

    def action(work: Work) -> None:
        _settle(work, owner, settlements, prepared, rows, now)

    has_files = any(each.file for each in prepared)
    if not wait and not has_files:
        writer.post(action, frees=True)
        return
    try:
        with_bounces(writer, spool, prepared, action)
    except (StorageFull, StoreUnavailable):
        if not has_files:  # those are gone
            writer.post(action, frees=True)
        raise


def give_up(
    writer: Writer, spool: Spool, rows: Sequence[QueuedRow], bounces: Sequence[Acceptance], trace: Trace
) -> bool:
    """See `Store.queue_give_up`."""
    prepared = [prepare(each, spool) for each in bounces]
    row_ids, told = [row.row_id for row in rows], rows_of(trace)
    return with_bounces(writer, spool, prepared, lambda work: _give_up(work, row_ids, prepared, told))


def _settle(
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
            _storable(str(settlement.reply)) if settlement.reply is not None else None,
            _storable(settlement.remote) or None,
            int(row.delay_notified or settlement.delay_notified),
            row.row_id,
            owner,
        ),
    ).fetchall()
    if settlement.state == State.READY and settlement.not_before <= now:
        work.queued.update(Route(*each) for each in kept)
    return bool(kept)


def _storable(said: str) -> str:
    """A transport's words. Where they hold half of a character, SQLite refuses them, and the row would stay claimed."""
    return said.encode("utf-8", "replace").decode("utf-8")


def _give_up(
    work: Work, row_ids: Sequence[int], bounces: Sequence[Prepared], trace: Sequence[tuple[str, float, str]]
) -> bool:
    """End rows that nobody is delivering, all of them or none: the bounces tell of all. Whether they ended."""
    execute = work.connection.execute
    if not all(execute(IS_OPEN, (row_id,)).fetchone() for row_id in row_ids):
        work.files.extend(bounce.file for bounce in bounces if bounce.file)
        return False
    gone = [execute(GIVE_UP, (row_id,)).fetchone()[0] for row_id in row_ids]
    for bounce in bounces:
        insert(work, bounce, is_bounce=True)
    release(work, dict.fromkeys(gone))
    work.connection.executemany(INSERT_TRACE, trace)
    return True


def _check_states(settlements: Sequence[Settlement]) -> None:
    """Raises ValueError for a state that no settlement leads to."""
    for each in settlements:
        if each.state not in ENDS and each.state not in {State.READY, State.HELD}:
            raise ValueError(f"a row cannot be settled as {each.state!r}")
