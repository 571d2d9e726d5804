"""Header fields and body as a signature sees them: the form "relaxed" (RFC 6376 §3.4.2, §3.4.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from mailserv.mail.message import field_name


def relaxed_field(field: bytes) -> bytes:
    """`field`: a whole one, folded as it is, with its CRLF."""
    unfolded = _single_spaces(field.partition(b":")[2].replace(b"\r\n", b""))
    return field_name(field) + b":" + unfolded.strip(b" ") + b"\r\n"


def body_hash(blocks: Iterable[bytes]) -> bytes:
    """SHA-256 of a body, cut anywhere into blocks. Empty lines at its end do not count."""
    digest = hashlib.sha256()
    waiting = 0  # line ends that count when something follows: of empty lines, and of the one before them
    is_empty = True
    for lines in _whole_lines(blocks):
        relaxed = _single_spaces(lines).replace(b" \r\n", b"\r\n")
        end = len(relaxed)
        while relaxed.endswith(b"\r\n", 0, end):
            end -= 2
        if end:
            digest.update(b"\r\n" * waiting + relaxed[:end])
            waiting, is_empty = 0, False
        waiting += (len(relaxed) - end) // 2
    if not is_empty:
        digest.update(b"\r\n")
    return digest.digest()


def _single_spaces(text: bytes) -> bytes:
    """Each sequence of white space becomes one space; by an expression that would take ten times as long."""
    text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")  # of n there is half: a megabyte of spaces is 20 rounds
    return text


def _whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same octets, cut behind line ends only; the last line gets one where it has none."""
    begun = bytearray()
    for block in blocks:
        looked_at = max(len(begun) - 1, 0)  # a CR there may be half of a line end
        begun += block
        end = begun.rfind(b"\r\n", looked_at) + 2
        if end >= 2:
            yield bytes(begun[:end])
            del begun[:end]
    if begun:
        yield bytes(begun) + b"\r\n"
