"""A maildrop as one session sees it (RFC 1939 §4, §5): numbered once, marked, and deleted from only at QUIT. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from mailserv.mail.maildrop import Message


class Maildrop:
    """The messages at the moment of the login, numbered from 1. One thread."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._deleted: set[int] = set()

    @property
    def stat(self) -> tuple[int, int]:
        """Messages and octets, without what is marked as deleted."""
        octets = sum([message.size for message in self._messages])
        octets -= sum([self._messages[number - 1].size for number in self._deleted])
        return len(self._messages) - len(self._deleted), octets

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

    def scan_listing(self) -> list[str]:
        """The lines of LIST."""
        return [f"{number} {message.size}" for number, message in self._present()]

    def unique_id_listing(self) -> list[str]:
        """The lines of UIDL."""
        return [f"{number} {message.unique_id}" for number, message in self._present()]

    def _present(self) -> Iterable[tuple[int, Message]]:
        numbered = enumerate(self._messages, 1)
        if not self._deleted:
            return numbered
        return (pair for pair in numbered if pair[0] not in self._deleted)


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
