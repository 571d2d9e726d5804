"""Reading a server's replies (RFC 5321 §4.2, §4.2.1): bounded, and clean by the time anybody else sees them."""

from __future__ import annotations

import re
from functools import lru_cache

from mailserv.errors import ProtocolError
from mailserv.mail.fields import printable
from mailserv.mail.reply import SEVERITIES, Reply, Severity
from mailserv.mail.value import Value

__all__ = ["ProtocolError", "ReplyReader", "ServerReply"]  # the error, too: a plugin that reads replies catches it

MAX_LINE = 2048  # octets; RFC 5321 §4.5.3.1.5 says 512, real servers put a URL behind it
MAX_LINES = 100  # lines of one reply; the longest honest one is an EHLO of some thirty
MAX_REPLY = 65_536  # octets of one reply
MAX_TEXT = 512  # characters of a reply that go into a log, a trace or a DSN

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)")  # RFC 3463 §2


class ServerReply(Value, frozen=True):
    """One whole reply as it came: `lines` are its texts after the code, decoded byte by byte (latin-1), not yet cleaned."""

    code: int
    lines: tuple[str, ...]

    @property
    def severity(self) -> Severity:
        return SEVERITIES[self.code // 100]

    def to_reply(self) -> Reply:
        """The reply as a value that may be logged, stored and shown: one printable ASCII line of at most MAX_TEXT.

        A missing enhanced status becomes x.0.0, and so does one of another class than the code (RFC 2034 §4).
        """
        status = f"{self.code // 100}.0.0"
        found = _ENHANCED.match(self.lines[0])
        lines = list(self.lines)
        if found:
            lines = [line[found.end() :] if line.startswith(found.group(1)) else line for line in lines]
            if found.group(1)[0] == status[0]:
                status = found.group(1)
        if self.severity is Severity.INTERMEDIATE:
            status = ""
        return Reply(self.code, status, printable(" ".join(lines), MAX_TEXT))


class ReplyReader:
    """Takes bytes, gives back whole replies. Raises ProtocolError when they can't be one; then it is of no further use."""

    __slots__ = ("_buffer", "_code", "_lines", "_size")

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[str] = []  # of the reply that is under way
        self._code = 0
        self._size = 0

    @property
    def is_empty(self) -> bool:
        """Nothing is here that has not been given back: what STARTTLS demands before the handshake (invariant 6)."""
        return not self._buffer and not self._lines

    def feed(self, data: bytes) -> None:
        """Add what came from the wire."""
        self._buffer = self._buffer + data if self._buffer else data

    def next(self) -> ServerReply | None:
        """The next whole reply, None when more bytes are needed."""
        while (end := self._buffer.find(b"\n")) >= 0:
            line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
            reply = self._take_line(line[:-1] if line.endswith(b"\r") else line)
            if reply is not None:
                return reply
        if len(self._buffer) > MAX_LINE:
            raise ProtocolError("a reply line is too long")
        return None

    def _take_line(self, line: bytes) -> ServerReply | None:
        if len(line) > MAX_LINE:
            raise ProtocolError("a reply line is too long")
        alone, is_last = _read_line(line)
        if is_last and not self._lines:
            return alone
        if self._lines and alone.code != self._code:
            raise ProtocolError("the lines of one reply differ in their code")
        self._code = alone.code
        self._lines += alone.lines
        self._size += len(line)
        if len(self._lines) > MAX_LINES or self._size > MAX_REPLY:
            raise ProtocolError("a reply is too long")
        if not is_last:
            return None
        reply = ServerReply(alone.code, tuple(self._lines))
        self._lines, self._size = [], 0
        return reply


@lru_cache(maxsize=256)  # a server says the same to each message, but for the last
def _read_line(line: bytes) -> tuple[ServerReply, bool]:
    """A line as a reply of its own, and whether it is the last one of its reply."""
    match = _LINE.fullmatch(line)
    if not match:
        raise ProtocolError("a reply line has no code")
    code, mark, text = match.groups()
    return ServerReply(int(code), ((text or b"").decode("latin-1"),)), mark != b"-"
