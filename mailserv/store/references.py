"""When nothing refers to a message any more, its row and its file go."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv.store.writer import Work

BATCH = 50  # messages in one transaction: even if each frees 256 KiB of pages it stays under 100 ms

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
