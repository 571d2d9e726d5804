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
        """The next block, not empty. What is left of it without its CRLFs may have a CR or an LF only where it was cut:
        looking for those is quick, and counting them is not, since Python counts single octets one by one."""
        if self.bare:
            return
        left = block.replace(b"\r\n", b"")
        ends_in_cr = block.endswith(b"\r")
        self.bare = (
            left.find(b"\n", self._after_cr) >= 0
            or left.find(b"\r", 0, len(left) - ends_in_cr) >= 0
            or (self._after_cr and not block.startswith(b"\n"))
        )
        self._after_cr = ends_in_cr

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
        dotted = data.find(b"\r\n.")  # most blocks have none but the end: then they need no other search for it
        content = self._find_end(data, first, dotted)
        if not content:
            return []
        self._newlines.note(content)
        after_cr, self._after_cr = self._after_cr, content.endswith(b"\r")
        self._line_start = content.endswith(b"\r\n") or (after_cr and content == b"\n")
        if 0 <= dotted < len(content) - 2:
            content = content.replace(b"\r\n.", b"\r\n")
        if first >= 0 and content.startswith(b".", first):
            content = content[:first] + content[first + 1 :]
        return [content] if content else []

    def _find_end(self, data: bytes, first: int, dotted: int) -> bytes:
        """Cut off what is not content: the end of data with what follows, or a dot that the next block must explain.
        `dotted`: where the first line begins, with its CRLF, that has a dot; -1 for none."""
        self._held = b""
        if first >= 0 and data.startswith(b".\r\n", first):
            return self._end(data, first, first + 3)
        end = data.find(END_OF_DATA, dotted) if dotted >= 0 else -1
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
