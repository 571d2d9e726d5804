"""Header fields that the server itself writes, and wire text made fit to stand in one."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from mailserv.mail.address import Address

_UNPRINTABLE = re.compile(r"[^ -~]")
_SPACES = re.compile(r"\s+")


def date_time(now: float) -> str:
    """`now` (epoch seconds) as RFC 5322 §3.3 writes it, in UTC."""
    return _date_time(int(now))


@lru_cache(maxsize=4)  # all messages of a second say the same
def _date_time(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))


def printable(text: str, limit: int = 500, *, keep_utf8: bool = False) -> str:
    """One line of at most `limit` characters from text of a peer: white space made single, the unprintable a "?".

    `keep_utf8` leaves printable characters outside ASCII as they are.
    """
    if len(text) <= limit and text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    line = _SPACES.sub(" ", text[: 4 * limit]).strip()
    if keep_utf8:
        line = "".join(char if char.isprintable() else "?" for char in line)
    else:
        line = _UNPRINTABLE.sub("?", line)
    return line if len(line) <= limit else line[: limit - 3] + "..."


def return_path_prefix(reverse_path: Address, recipient: Address) -> bytes:
    """What final delivery adds before the content (RFC 5321 §4.4), CRLF line ends; UTF-8 where an address is."""
    return f"Return-Path: <{reverse_path}>\r\nDelivered-To: {recipient}\r\n".encode("utf-8", "replace")


def received_here(hostname: str, queue_id: str, now: float) -> bytes:
    """The Received field of a message that this server made itself: there is no "from"."""
    return f"Received: by {hostname} id {queue_id}; {date_time(now)}\r\n".encode("ascii", "replace")
