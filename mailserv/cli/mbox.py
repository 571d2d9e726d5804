"""The mbox format (RFC 4155), octet for octet: mboxrd, whose quoting can be undone, and mboxo, whose can't.

A message begins after a "From " line and ends with an empty line that is not its own. In mboxrd every line that begins
with any number of ">" and "From " has one ">" more than its message has. What other programs write is not always right, so
a line counts as a separator when two of three are true: an empty line is above it, it ends in a date, and a header field
is below it. Nothing is ever left out: a line that is no separator belongs to the message above it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import BinaryIO, Literal

from mailserv.errors import MailservError
from mailserv.mail.line_ends import with_lf

Form = Literal["mboxrd", "mboxo"]

_LINE = 64 * 1024  # octets: a longer line comes in pieces; none that means anything is longer
_BLANK = (b"\n", b"\r\n")
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
# RFC 4155 §3: "From ", an address, and the date as asctime(3) has it, in UTC; others put a zone beside the year.
_DATE = re.compile(
    rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +(?P<month>[A-Z][a-z]{2}) +(?P<day>\d{1,2}) +(?P<hour>\d\d):(?P<minute>\d\d)"
    rb"(?::(?P<second>\d\d))?(?: +(?P<zone>[+-]\d{4})| +[A-Z]{2,5})? +(?P<year>\d{4})(?: +(?P<after>[+-]\d{4}))?"
)
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_QUOTED = re.compile(rb">+From ")
_TO_QUOTE = re.compile(rb"^(?=>*From )", re.MULTILINE)


class NoMbox(MailservError):
    """What was opened begins with something else."""


@dataclass(frozen=True, slots=True)
class Separator:
    """What a "From " line says: `address` as it stands there, `date` in epoch seconds (None: none that can be read)."""

    address: str
    date: float | None


class MboxReader:
    """One pass over an mbox. `octets`: how many were read so far, for a progress bar."""

    def __init__(self, file: BinaryIO, form: Form = "mboxrd") -> None:
        self._file = file
        self._form = form
        self._peeked: bytes | None = None
        self._separator: bytes | None = None
        self.octets = 0

    def messages(self) -> Iterator[tuple[Separator, Iterator[bytes]]]:
        """Each message and its blocks, with the line ends that the file has. The blocks are to be read before the next
        message is. Raises NoMbox, before the first."""
        first = self._line()
        while first in _BLANK:
            first = self._line()
        if first and not first.startswith(b"From "):
            raise NoMbox('this is no mbox: its first line does not begin with "From "')
        self._separator = first or None
        while self._separator is not None:
            separator, self._separator = self._separator, None
            body = _joined(self._body())
            yield parse_separator(separator), body
            for _ in body:  # whoever wanted no more of it
                pass

    def _body(self) -> Iterator[bytes]:
        """The blocks of one message. Leaves the separator of the next in `_separator`."""
        blank = b""  # an empty line that may be the message's end
        starts = True  # whether `line` begins a line: one that is too long comes in pieces
        line = b""
        while line := self._line():
            if starts and line.startswith(b"From ") and self._separates(line, has_blank=bool(blank)):
                self._separator = line
                return
            if blank:
                yield blank
                blank = b""
            if starts and line in _BLANK:
                blank = line
                continue
            if starts and line.startswith(b">") and self._form == "mboxrd":
                line = self._unquoted(line)
            yield line
            starts = line.endswith(b"\n")
        if not starts:
            yield b"\n"

    def _separates(self, line: bytes, *, has_blank: bool) -> bool:
        if not line.endswith(b"\n"):
            return False
        return has_blank + (_DATE.search(line) is not None) + (_FIELD.match(self._peek()) is not None) >= 2

    def _unquoted(self, line: bytes) -> bytes:
        """The beginning of a line without the ">" that it has more than in its message. Any number may be many."""
        pieces = [line]
        while pieces[-1] and not pieces[-1].strip(b">"):
            pieces.append(self._line())
        line = b"".join(pieces)
        return line[1:] if _QUOTED.match(line) else line

    def _line(self) -> bytes:
        line, self._peeked = self._peeked, None
        if line is None:
            line = self._file.readline(_LINE)
            self.octets += len(line)
        return line

    def _peek(self) -> bytes:
        if self._peeked is None:
            self._peeked = self._file.readline(_LINE)
            self.octets += len(self._peeked)
        return self._peeked


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines as blocks: what follows costs something for each piece."""
    held: list[bytes] = []
    octets = 0
    for line in lines:
        held.append(line)
        octets += len(line)
        if octets >= _LINE:
            yield b"".join(held)
            held.clear()
            octets = 0
    if held:
        yield b"".join(held)


def parse_separator(line: bytes) -> Separator:
    """Lenient: it is only told, never relied on."""
    found = _DATE.search(line)
    address = line[5 : found.start() if found else len(line)].decode("utf-8", "replace").strip()
    return Separator(address, _epoch(found) if found else None)


def _epoch(found: re.Match[bytes]) -> float | None:
    part = {name: (text or b"").decode("ascii") for name, text in found.groupdict().items()}
    zone = part["zone"] or part["after"] or "+0000"
    offset = timedelta(hours=int(zone[:3]), minutes=int(zone[0] + zone[3:]))
    try:
        at = datetime(
            int(part["year"]),
            _MONTHS.index(part["month"]) + 1,
            int(part["day"]),
            int(part["hour"]),
            int(part["minute"]),
            min(int(part["second"] or 0), 59),  # a leap second
            tzinfo=timezone(offset),
        )
    except ValueError:
        return None
    return at.timestamp()


def written(blocks: Iterable[bytes], address: str, date: float) -> Iterator[bytes]:
    """One message as mboxrd has it: its separator, its lines quoted with LF ends, the empty line.

    Content that does not end with a line end gets one: the format has no way to tell.
    """
    word = address if address and not re.search(r"\s", address) else "MAILER-DAEMON"
    yield f"From {word} {_asctime(date)}\n".encode()
    last = b"\n"
    for block in _quoted(with_lf(blocks)):
        yield block
        last = block
    yield b"\n" if last.endswith(b"\n") else b"\n\n"


def _quoted(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines at a time, so that no "From " lies across a border; of a very long line only the beginning matters."""
    rest = b""
    is_start = True  # whether `rest` begins a line
    for block in blocks:
        rest += block
        cut = rest.rfind(b"\n") + 1
        if not cut and len(rest) > _LINE and len(rest.lstrip(b">")) > _LINE // 2:
            cut = len(rest)
        if cut:
            yield from _with_quotes(rest[:cut], is_start=is_start)
            is_start = rest[cut - 1 : cut] == b"\n"
            rest = rest[cut:]
    if rest:
        yield from _with_quotes(rest, is_start=is_start)


def _with_quotes(lines: bytes, *, is_start: bool) -> Iterator[bytes]:
    if is_start:
        yield _TO_QUOTE.sub(b">", lines)
        return
    end = lines.find(b"\n") + 1 or len(lines)
    yield lines[:end] + _TO_QUOTE.sub(b">", lines[end:])


def _asctime(date: float) -> str:
    """As RFC 4155 §3 has it: UTC, and English whatever the locale."""
    at = datetime.fromtimestamp(int(date), UTC)
    return f"{_DAYS[at.weekday()]} {_MONTHS[at.month - 1]} {at.day:2} {at:%H:%M:%S} {at.year:04}"
