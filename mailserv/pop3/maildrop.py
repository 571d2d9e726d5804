"""A maildrop as one session sees it (RFC 1939 §4, §5): numbered once, marked, and deleted from only at QUIT. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from mailserv.mail.maildrop import Message
from mailserv.pop3.listings import Snapshot


class Maildrop:
    """The messages at the moment of the login, numbered from 1. One thread."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._messages = snapshot.messages
        self._deleted: set[int] = set()

    @property
    def stat(self) -> tuple[int, int]:
        """Messages and octets, without what is marked as deleted."""
        deleted = sum([self._messages[number - 1].size for number in self._deleted])
        return len(self._messages) - len(self._deleted), self._snapshot.octets - deleted

    def get(self, number: int) -> Message | None:
        """None when there is no such message, or it is marked as deleted."""
        if not 1 <= number <= len(self._messages) or number in self._deleted:
            return None
        return self._messages[number - 1]

    def mark(self, number: int) -> bool:
        """Mark as deleted. False when there is no such message, or it is marked already."""
        if self.get(number) is None:
            return False
        self._deleted.add(number)
        return True

    def unmark_all(self) -> None:
        """RSET."""
        self._deleted.clear()

    @property
    def marked(self) -> list[Message]:
        """What QUIT deletes."""
        return [self._messages[number - 1] for number in sorted(self._deleted)]

    def scan_listing(self) -> bytes:
        """The lines of LIST."""
        return self._without_deleted(self._snapshot.sizes)

    def unique_id_listing(self) -> bytes:
        """The lines of UIDL."""
        return self._without_deleted(self._snapshot.unique_ids)

    def _without_deleted(self, lines: bytes) -> bytes:
        if not self._deleted:
            return lines
        numbered = enumerate(lines.splitlines(keepends=True), 1)
        return b"".join([line for number, line in numbered if number not in self._deleted])


def top(blocks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """The header section, the empty line, and the first `lines` lines of the body (RFC 1939 §7, TOP).

    Reads no block that it does not need and keeps none.
    """
    tail = b"\r\n"  # as if a line had ended before the first: content may begin with the empty line
    rest = iter(blocks)
    for block in rest:
        seen = tail + block
        end = seen.find(b"\r\n\r\n")
        if end < 0:
            yield block
            tail = seen[-3:]
            continue
        end += 4 - len(tail)
        yield block[:end]
        if lines:
            yield from _first_lines(chain((block[end:],), rest), lines)
        return


def _first_lines(blocks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    for block in blocks:
        end = 0
        while lines and (newline := block.find(b"\n", end)) >= 0:
            end = newline + 1
            lines -= 1
        if not lines:
            yield block[:end]
            return
        yield block
