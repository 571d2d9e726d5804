"""Internationalised messages for a client that has not said UTF8 (RFC 6856 §4): each as its surrogate (RFC 6858)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mailserv.errors import StoreError
from mailserv.mail.maildrop import Message
from mailserv.mail.message import Content, header_section
from mailserv.mail.surrogate import in_ascii
from mailserv.pop3.listings import Snapshot
from mailserv.pop3.opening import SessionMaildrop


@dataclass(frozen=True, slots=True)
class _Surrogate:
    """`size` is the surrogate's, so that LIST tells what RETR sends."""

    unique_id: str
    size: int
    original: Message
    is_utf8: bool = False


class WithSurrogates:
    """A maildrop as it was opened, but for its internationalised messages. Reads their header sections at once."""

    def __init__(self, opened: SessionMaildrop) -> None:
        self._opened = opened
        self.is_ours = opened.is_ours
        self.messages: Sequence[Message] = [self._shown(message) for message in opened.messages]
        self.snapshot = Snapshot(self.messages)

    def read(self, message: Message) -> Content | None:
        if not isinstance(message, _Surrogate):
            return self._opened.read(message)
        content = self._opened.read(message.original)
        return None if content is None else _surrogate(content)

    def delete(self, messages: Sequence[Message]) -> None:
        self._opened.delete(_originals(messages))

    def mark_retrieved(self, messages: Sequence[Message], now: float) -> None:
        self._opened.mark_retrieved(_originals(messages), now)

    def close(self) -> None:
        self._opened.close()

    def _shown(self, message: Message) -> Message:
        """One that cannot be read now is no reason to refuse the login: RETR will say so."""
        try:
            content = self._opened.read(message) if message.is_utf8 else None
            return message if content is None else _Surrogate(message.unique_id, _surrogate(content).size, message)
        except StoreError:
            return message


@dataclass(frozen=True, slots=True)
class _SurrogateContent:
    """`header` stands for the first `replaced` octets."""

    content: Content
    header: bytes
    replaced: int

    @property
    def size(self) -> int:
        return self.content.size - self.replaced + len(self.header)

    def blocks(self) -> Iterator[bytes]:
        yield self.header
        skip = self.replaced
        for block in self.content.blocks():
            if skip < len(block):
                yield block[skip:]
            skip = max(0, skip - len(block))


def _originals(messages: Sequence[Message]) -> list[Message]:
    return [each.original if isinstance(each, _Surrogate) else each for each in messages]


def _surrogate(content: Content) -> Content:
    header = header_section(content)
    return _SurrogateContent(content, in_ascii(header), len(header))
