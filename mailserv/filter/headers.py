"""Header fields on the way in: Received, the completion of submissions, loops (RFC 5321 §4.4, §6.3; RFC 6409 §8).

A header section is `bytes` with CRLF line ends, without the empty line that closes it. Everything here is linear in its
size, and no octet that is not spoken of below is changed.

Content whose first line is no header field has no header section: it is all body. What is put before it must end with
an empty line (`separator`), else the first line would become the end of our field, or the rest of it a lost field.
"""

from __future__ import annotations

import re
from collections import Counter

from mailserv.errors import AddressSyntaxError
from mailserv.mail.address import Address, parse_domain
from mailserv.mail.fields import date_time, printable, return_path_prefix
from mailserv.mail.peer import Peer

__all__ = [
    "clean",
    "complete_submission",
    "count_hops",
    "delivered_to",
    "received_field",
    "return_path_prefix",
    "separator",
]

# RFC 5322 §2.2: a field name is printable ASCII without colon; §4.5 allows white space before the colon.
# Possessive quantifiers: a megabyte without a colon is looked at once.
_FIELD = re.compile(rb"[!-9;-~]++[ \t]*+:")
_RECEIVED = re.compile(rb"^received[ \t]*+:", re.IGNORECASE | re.MULTILINE)
_DELIVERED_TO = re.compile(rb"^delivered-to[ \t]*+:[ \t]*+([^\r\n]*+)", re.IGNORECASE | re.MULTILINE)
_DATE = re.compile(rb"^date[ \t]*+:", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID = re.compile(rb"^message-id[ \t]*+:", re.IGNORECASE | re.MULTILINE)
# Bcc and Resent-Bcc are for the sender's eyes (RFC 5322 §3.6.3); Return-Path is written at final delivery only (§4.4).
_UNSENT = re.compile(rb"^(?:resent-)?bcc[ \t]*+:|^return-path[ \t]*+:", re.IGNORECASE | re.MULTILINE)
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_NOT_IN_DOMAIN = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_NOT_IN_COMMENT = re.compile(r"[^A-Za-z0-9._-]")


def clean(text: str) -> str:
    """Text of a peer as one printable line of at most 255 characters, for the trace and the log."""
    return printable(text, 255)


def received_field(
    peer: Peer,
    *,
    hostname: str,
    queue_id: str,
    now: float,
    recipient: Address | None = None,
    smtputf8: bool = False,
    reverse_dns: str = "",
) -> bytes:
    """The trace field of a message that `peer` sent us at `now` (RFC 5321 §4.4), CRLF at its end.

    `recipient` is named only when it is the only one (a Bcc must not show, RFC 5321 §7.2). `reverse_dns` is the host
    name that the client's address has been proven to have, "" for none.
    """
    literal = f"[IPv6:{peer.ip}]" if ":" in peer.ip else f"[{peer.ip}]"
    host = f"{_domain(reverse_dns)} {literal}" if reverse_dns else literal
    lines = [
        f"Received: from {_domain(peer.helo)} ({host})",
        f"by {hostname} with {_with(peer, smtputf8)} id {queue_id}",
    ]
    if peer.tls is not None:
        version, cipher = (_NOT_IN_COMMENT.sub("", word) for word in (peer.tls.version, peer.tls.cipher))
        lines.append(f"(using {version} with cipher {cipher})")
    if recipient is not None:
        lines.append(f"for <{recipient}>")
    text = "\r\n\t".join(lines) + f";\r\n\t{date_time(now)}\r\n"
    return text.encode("utf-8", "replace")


def _with(peer: Peer, smtputf8: bool) -> str:
    """RFC 3848; with SMTPUTF8: UTF8SMTP, UTF8SMTPA, UTF8SMTPS, UTF8SMTPSA (RFC 6531 §4.3)."""
    return "UTF8" + peer.protocol.removeprefix("E") if smtputf8 else peer.protocol


def _domain(claimed: str) -> str:
    """A name that a peer gave: as it is when it is a domain or literal, else what can stand in its place."""
    try:
        return parse_domain(claimed)
    except AddressSyntaxError:
        return _NOT_IN_DOMAIN.sub("", claimed[:255]) or "unknown"


def separator(header_section: bytes) -> bytes:
    """What must stand between fields of ours and content that begins with `header_section`: an empty line or nothing."""
    return b"" if not header_section or _FIELD.match(header_section) else b"\r\n"


def complete_submission(header_section: bytes, *, hostname: str, queue_id: str, now: float) -> bytes:
    """The header section of a message that starts its way here (RFC 6409 §8.2, §8.3; RFC 5322 §3.6).

    Adds Date and Message-ID when missing, at the top, so that a header section that is broken further down can't hide
    them. Takes out Bcc, Resent-Bcc and Return-Path with their folded lines. From is its author's to write.
    """
    gap = separator(header_section)
    kept = header_section if gap else _without_unsent(header_section)
    added = b""
    if gap or not _MESSAGE_ID.search(kept):
        added += f"Message-ID: <{queue_id}@{hostname}>\r\n".encode("ascii", "replace")
    if gap or not _DATE.search(kept):
        added += f"Date: {date_time(now)}\r\n".encode("ascii")
    return added + gap + kept


def _without_unsent(section: bytes) -> bytes:
    """Every line up to the empty one is looked at, also behind a line that is no field: readers differ about those."""
    kept: list[bytes] = []
    start = 0
    while found := _UNSENT.search(section, start):
        kept.append(section[start : found.start()])
        end = _FIELD_END.search(section, found.end())
        start = end.end() if end else len(section)
    kept.append(section[start:])
    return b"".join(kept)


def count_hops(header_section: bytes) -> int:
    """How many Received fields there are (RFC 5321 §6.3)."""
    return len(_RECEIVED.findall(header_section))


def delivered_to(header_section: bytes) -> Counter[str]:
    """How many Delivered-To fields name each address. Case does not count: they are casefolded."""
    values = (found.group(1).strip(b" \t<>") for found in _DELIVERED_TO.finditer(header_section))
    return Counter(value.decode("utf-8", "replace").casefold() for value in values)
