"""What may be sent as content (RFC 5321 §4.5.3.1.6, RFC 5322 §2.1.1, §2.3): looked at in whole blocks, never by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mailserv.protocol.dots import Newlines

MAX_TEXT_LINE = 998  # octets without CRLF, RFC 5322 §2.1.1


@dataclass(frozen=True, slots=True)
class ContentFacts:
    """`is_sendable`: no NUL, and every CR and LF is half of a CRLF. `has_long_line`: longer than MAX_TEXT_LINE somewhere.

    `is_8bit`: an octet above 127 somewhere (RFC 6152).
    """

    is_sendable: bool
    has_long_line: bool
    is_8bit: bool


def examine(blocks: Iterable[bytes]) -> ContentFacts:
    """Read the content once, block by block."""
    newlines = Newlines()
    nul = long_line = eight_bit = False
    column = 0  # octets of the line that goes on over the border
    for block in blocks:
        if not block:
            continue
        newlines.note(block)
        nul = nul or b"\0" in block
        eight_bit = eight_bit or not block.isascii()
        long_line = long_line or _has_long_line(block, column)
        newline = block.rfind(b"\n")
        column = len(block) - newline - 1 if newline >= 0 else column + len(block)
    return ContentFacts(not nul and not newlines.end(), long_line or column > MAX_TEXT_LINE, eight_bit)


def _has_long_line(block: bytes, column: int) -> bool:
    """Whether two line ends lie too far apart, with `column` octets before this block: one step for each 1,000 octets."""
    longest = MAX_TEXT_LINE + 2  # with its CRLF
    start, end = 0, longest - column
    while end < len(block):
        newline = block.rfind(b"\n", start, end) if end > 0 else -1
        if newline < 0:
            return True
        start, end = newline + 1, newline + 1 + longest
    return False


def fold(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Break every line longer than MAX_TEXT_LINE with CRLF and a space, as Postfix does.

    A header field is folded that way (RFC 5322 §2.2.3); in a body it is harm, but less than a bounce to somebody who
    can't help it. For content with long lines only, because it goes line by line; holds a block and a line.
    """
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\r\n")
        folded = b"".join(_folded(line) + b"\r\n" for line in lines)
        half = b"\r" if rest.endswith(b"\r") else b""  # of a CRLF that lies across the border
        head, line_end, rest = _folded(rest.removesuffix(half)).rpartition(b"\r\n")
        rest += half
        yield folded + head + line_end
    yield rest


def _folded(line: bytes) -> bytes:
    if len(line) <= MAX_TEXT_LINE:
        return line
    step = MAX_TEXT_LINE - 1  # the space takes one
    starts = range(MAX_TEXT_LINE, len(line), step)
    return b"\r\n ".join([line[:MAX_TEXT_LINE], *(line[i : i + step] for i in starts)])
