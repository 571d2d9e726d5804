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

    __slots__ = ("_data", "_discarded", "_start")

    def __init__(self) -> None:
        self._data = b""  # nothing unread: empty
        self._start = 0  # where the unread part of _data begins
        self._discarded = 0  # octets of the current line that were thrown away; 0: it is whole

    def __bool__(self) -> bool:
        """Whether unread bytes are here, or a line is being discarded."""
        return bool(self._data) or self._discarded > 0

    def feed(self, data: bytes) -> None:
        """Add what was read."""
        self._data = self._data[self._start :] + data
        self._start = 0

    def next_line(self, limit: int) -> bytes | LineFault | None:
        """The next line without its CRLF; None when its end is not here yet. `limit`: octets, CRLF included."""
        data, start = self._data, self._start
        if not data:
            return None
        end = data.find(CRLF, start)
        if end < 0:
            return self._unfinished(limit)
        if end + 2 == len(data):
            self._data, self._start = b"", 0
        else:
            self._start = end + 2
        length = self._discarded + end - start
        self._discarded = 0
        if length + 2 <= limit:
            return data[start:end]
        return LineFault.TOO_LONG if length <= DISCARD_LIMIT else LineFault.ENDLESS

    def take_rest(self) -> bytes:
        """Everything unread, which is then no longer here: content follows, not lines."""
        rest = self._data[self._start :]
        self._data, self._start = b"", 0
        return rest

    def _unfinished(self, limit: int) -> LineFault | None:
        """Throw away what is over the limit, but not a CR at the end: its LF may come."""
        unread = len(self._data) - self._start
        ends_in_cr = self._data.endswith(b"\r", self._start)
        if not self._discarded and unread - ends_in_cr + 2 <= limit:
            return None
        self._discarded += unread - ends_in_cr
        self._data, self._start = b"\r" if ends_in_cr else b"", 0
        if self._discarded <= DISCARD_LIMIT:
            return None
        self._discarded = 0
        return LineFault.ENDLESS
