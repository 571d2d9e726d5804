"""Dots and the end of data as they come in (RFC 5321 §4.5.2): whole blocks at a time, never line by line."""

from __future__ import annotations

END_OF_DATA = b"\r\n.\r\n"


class Newlines:
    """Sees whether every CR and every LF is half of a CRLF, over any cut into blocks. `bare`: one was not. One thread."""

    __slots__ = ("_after_cr", "bare")

    def __init__(self) -> None:
        self.bare = False
        self._after_cr = False  # the last octet was a CR: an LF must follow

    def note(self, block: bytes) -> None:
        """The next block, not empty."""
        if self.bare:
            return
        pairs = block.count(b"\r\n")
        half_at_end = block.endswith(b"\r")
        half_at_start = self._after_cr and block.startswith(b"\n")
        self.bare = (
            block.count(b"\n") != pairs + half_at_start
            or block.count(b"\r") != pairs + half_at_end
            or (self._after_cr and not half_at_start)
        )
        self._after_cr = half_at_end

    def end(self) -> bool:
        """No more blocks: `bare`, also for a CR that was the last octet."""
        self.bare = self.bare or self._after_cr
        return self.bare


class DotReader:
    """Takes blocks of dot-stuffed content as they come, gives them back unstuffed; finds the end and every bare CR or LF.

    Correct for any cut of the same bytes. Nothing is kept but a "." or ".\\r" that stands at the start of a line and at
    the end of a block. Only CRLF.CRLF ends the content, and the first CRLF of the five belongs to it (RFC 5321 §4.1.1.4).
    `ended`: the end was seen; `rest`: what came after it. `bare`: a CR or LF stood alone (invariant 5). One thread.
    """

    __slots__ = ("_after_cr", "_held", "_line_start", "_newlines", "_tail", "ended", "rest")

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""
        self._newlines = Newlines()
        self._line_start = True  # the next octet begins a line
        self._after_cr = False  # the last octet was a CR: with an LF now it becomes a line end
        self._held = b""
        self._tail = b""

    @property
    def bare(self) -> bool:
        return self._newlines.bare

    @property
    def looks_ended(self) -> bool:
        """Whether the bytes so far end as a client ends its content that takes LF for a line end; it waits now."""
        return self._tail.endswith((b"\n.\n", b"\n.\r\n"))

    def feed(self, data: bytes) -> list[bytes]:
        """The content in `data`: one block, or none. After `ended` nothing may be fed."""
        self._tail = (self._tail + data[-4:])[-4:]
        data = self._held + data
        first = 1 if self._after_cr and data.startswith(b"\n") else 0
        if not (first or self._line_start):
            first = -1  # no line is known to begin at this border
        dotted = b"\r\n." in data  # most blocks have none, and need neither of the two searches for it
        content = self._find_end(data, first, dotted)
        if not content:
            return []
        self._newlines.note(content)
        after_cr, self._after_cr = self._after_cr, content.endswith(b"\r")
        self._line_start = content.endswith(b"\r\n") or (after_cr and content == b"\n")
        if dotted:
            content = content.replace(b"\r\n.", b"\r\n")
        if first >= 0 and content.startswith(b".", first):
            content = content[:first] + content[first + 1 :]
        return [content] if content else []

    def _find_end(self, data: bytes, first: int, dotted: bool) -> bytes:
        """Cut off what is not content: the end of data with what follows, or a dot that the next block must explain."""
        self._held = b""
        if first >= 0 and data.startswith(b".\r\n", first):
            return self._end(data, first, first + 3)
        end = data.find(END_OF_DATA) if dotted else -1
        if end >= 0:
            return self._end(data, end + 2, end + 5)
        if data.endswith((b".", b".\r")):
            dot = len(data) - (1 if data.endswith(b".") else 2)
            if dot == first or data.endswith(b"\r\n", 0, dot):
                self._held = data[dot:]
                return data[:dot]
        return data

    def _end(self, data: bytes, end: int, rest: int) -> bytes:
        self.ended = True
        self.rest = data[rest:]
        return data[:end]
