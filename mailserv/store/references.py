"""When nothing refers to a message any more, its row and its file go."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv.store.writer import Work

SWEEP = 50  # messages in one transaction: even if each frees 256 KiB of pages it stays under 100 ms

DELETE_UNREFERENCED = """
    DELETE FROM message WHERE id = ?
    AND NOT EXISTS (SELECT 1 FROM queue WHERE message_id = message.id)
    AND NOT EXISTS (SELECT 1 FROM mailbox WHERE message_id = message.id)
    RETURNING file"""


def release(work: Work, message_ids: Iterable[int]) -> None:
    """These messages lost a reference: remove those that lost their last."""
    execute = work.connection.execute
    for message_id in message_ids:
        for (file,) in execute(DELETE_UNREFERENCED, (message_id,)).fetchall():
            if file is not None:
                work.files.append(file)


def doom(work: Work, message_ids: Iterable[int]) -> None:
    """Have `sweep` look at these messages, in this transaction or after a crash."""
    work.connection.executemany("INSERT OR IGNORE INTO doomed VALUES (?)", ((each,) for each in message_ids))


def sweep(work: Work) -> bool:
    """Release some of the doomed. Whether more are left."""
    rows = work.connection.execute("SELECT message_id FROM doomed LIMIT ?", (SWEEP,)).fetchall()
    release(work, (message_id for (message_id,) in rows))
    work.connection.executemany("DELETE FROM doomed WHERE message_id = ?", rows)
    return len(rows) == SWEEP
