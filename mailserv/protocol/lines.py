"""Lines that end in CRLF and in nothing else (RFC 5321 §2.3.8), from blocks of any size, in bounded memory."""

from __future__ import annotations

from enum import Enum

CRLF = b"\r\n"
DISCARD_LIMIT = 64 * 1024  # octets of one line thrown away before the peer is given up; no honest line comes near


class LineFault(Enum):
    """What `LineReader.next_line` returns instead of a line."""

    TOO_LONG = "too long"  # its end was found; reading goes on behind it
    ENDLESS = "endless"  # over DISCARD_LIMIT; the connection is of no further use


class LineReader:
    """Cuts fed bytes into lines. A line over the limit costs one LineFault, and no memory beyond the block that is fed.

    A bare CR or LF does not end a line: it stays in it, for the parser to refuse. One thread.
    """

    __slots__ = ("_discarded", "_start", "buffer")

    def __init__(self) -> None:
        self.buffer = b""  # b"" when all of it has been read
        self._start = 0  # where its unread part begins
        self._discarded = 0  # octets of the current line that were thrown away; 0: it is whole

    def __bool__(self) -> bool:
        """Whether unread bytes are here, or a line is being discarded."""
        return bool(self.buffer) or self._discarded > 0

    def feed(self, data: bytes) -> None:
        """Add what was read."""
        self.buffer = self.buffer[self._start :] + data if self.buffer else data
        self._start = 0

    def next_line(self, limit: int) -> bytes | LineFault | None:
        """The next line without its CRLF; None when its end is not here yet. `limit`: octets, CRLF included."""
        data, start = self.buffer, self._start
        end = data.find(CRLF, start)
        if end < 0:
            return self._unfinished(limit) if data else None
        if end + 2 == len(data):
            self.buffer, self._start = b"", 0
        else:
            self._start = end + 2
        if end + 2 - start <= limit and not self._discarded:
            return data[start:end]
        length, self._discarded = self._discarded + end - start, 0
        return LineFault.TOO_LONG if length <= DISCARD_LIMIT else LineFault.ENDLESS

    def take_rest(self) -> bytes:
        """Everything unread, which is then no longer here: content follows, not lines."""
        rest = self.buffer[self._start :]
        self.buffer, self._start = b"", 0
        return rest

    def _unfinished(self, limit: int) -> LineFault | None:
        """Throw away what is over the limit, but not a CR at the end: its LF may come."""
        unread = len(self.buffer) - self._start
        ends_in_cr = self.buffer.endswith(b"\r", self._start)
        if not self._discarded and unread - ends_in_cr + 2 <= limit:
            return None
        self._discarded += unread - ends_in_cr
        self.buffer, self._start = b"\r" if ends_in_cr else b"", 0
        if self._discarded <= DISCARD_LIMIT:
            return None
        self._discarded = 0
        return LineFault.ENDLESS
