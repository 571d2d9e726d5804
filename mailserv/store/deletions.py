"""Many messages deleted at once: one small transaction promises it, many small ones do it (docs/decisions/0019).

A promise is in `deletion`, in pieces that are each one transaction's work. From its commit on the rows are in no listing
any more; after a crash the pieces are still there.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from mailserv.errors import StoreError
from mailserv.logging import get_logger
from mailserv.store.references import BATCH, release
from mailserv.store.writer import Work, Writer

ACCOUNT_OF = "SELECT account_id FROM mailbox WHERE id = ?"
PROMISE = "INSERT INTO deletion (account_id, row_ids) VALUES (?, ?)"
NEWEST = "SELECT id, row_ids FROM deletion ORDER BY id DESC LIMIT 2"
DELETE = "DELETE FROM mailbox WHERE id IN (SELECT value FROM json_each(?)) RETURNING message_id"
FORGET = "DELETE FROM deletion WHERE id = ?"

log = get_logger("store")


def pieces(row_ids: Sequence[int]) -> list[str]:
    """Rows of one mailbox as what `promise` takes. Made before the writer has it: a long list takes a while."""
    return [msgspec.json.encode(row_ids[at : at + BATCH]).decode() for at in range(0, len(row_ids), BATCH)]


def promise(work: Work, row_ids: Sequence[int], cut: Sequence[str]) -> None:
    """From this commit on these rows are as good as gone. `cut`: the same as `pieces`."""
    for row_id in row_ids:
        found = work.connection.execute(ACCOUNT_OF, (row_id,)).fetchone()
        if found is not None:  # nearly always the first: only an expiry beside the session takes rows away
            work.connection.executemany(PROMISE, [(found[0], piece) for piece in cut])
            return


def keep_one(work: Work) -> bool:
    """Do one transaction's worth of what is promised, the newest first. Whether more is left."""
    found = work.connection.execute(NEWEST).fetchall()
    for piece_id, row_ids in found[:1]:
        gone = work.connection.execute(DELETE, (row_ids,)).fetchall()
        release(work, dict.fromkeys(message_id for (message_id,) in gone))
        work.connection.execute(FORGET, (piece_id,))
    return len(found) > 1


class Sweeper:
    """Keeps the promises, one small transaction after the other, so that new mail comes in between. Any thread.

    In the server on a thread of its own; in a command, which has nobody to come back to it, before `kick` returns.
    """

    def __init__(self, writer: Writer, *, in_background: bool) -> None:
        self._writer = writer
        self._wanted = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop, name="store-sweeper", daemon=True)
        if in_background:
            self._thread.start()

    def kick(self) -> None:
        """There is something to do. Without a thread: do it; raises StoreError."""
        if self._thread.ident is None:
            self._sweep()
        else:
            self._wanted.set()

    def close(self) -> None:
        """End after the transaction that runs; what is left is done after the next start. Idempotent."""
        self._is_closed = True
        self._wanted.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _sweep(self) -> None:
        while not self._is_closed and self._writer.run(keep_one, frees=True):
            pass

    def _loop(self) -> None:
        while not self._is_closed:
            self._wanted.wait()
            self._wanted.clear()
            try:
                self._sweep()
            except StoreError as error:  # the next deletion or the next start tries again
                log.warning("store_sweep_failed", error=str(error))
