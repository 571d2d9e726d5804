"""The third part of a DSN: what is returned of the message it is about (RFC 6522 §4, RFC 3461 §4.3)."""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from mailserv.mail.delivery import Delivery

RETURNED_SIZE = 50 * 1024  # octets: docs/decisions/0013; more is cut off (header sections) or not returned (messages)
_LINE = 998  # octets without CRLF, RFC 5322 §2.1.1


@dataclass(frozen=True, slots=True)
class Part:
    """One body part; `data` is already in its transfer encoding, CRLF line ends."""

    content_type: str
    description: str
    encoding: str
    data: bytes


def returned_part(delivery: Delivery, header: bytes, *, whole: bool) -> Part:
    """The header section, or the whole message if `whole`, RET=FULL asks for it, it is small, and it can stand as it is.

    RFC 3461 §4.3: RET is about failures; `whole` is False for what is late or arrived.
    """
    if whole and delivery.parameters.get("RET", "").upper() == "FULL" and delivery.content.size <= RETURNED_SIZE:
        message = b"".join(delivery.content.blocks())
        # UTF-8 header fields make a message/global, which only an SMTPUTF8 road can carry (RFC 6532 §3.7).
        if _fits(message) and header.isascii():
            return Part("message/rfc822", "Undelivered message", "7bit" if message.isascii() else "8bit", message)
    header = _cut(header)
    if _fits(header) and header.isascii():
        return Part("text/rfc822-headers", "Header fields of the message", "7bit", header)
    # RFC 6522 §4: broken or extended header sections may be made 7-bit by quoted-printable.
    return Part(
        "text/rfc822-headers; charset=utf-8",
        "Header fields of the message",
        "quoted-printable",
        quoted_printable(header),
    )


def quoted_printable(data: bytes) -> bytes:
    """RFC 2045 §6.7, for text with CRLF line ends; a CR or LF on its own and NUL come through as =0D, =0A, =00."""
    lines = data.split(b"\r\n")
    return b"\r\n".join(_encoded(line) for line in lines)


def _encoded(line: bytes) -> bytes:
    soft = binascii.b2a_qp(line, istext=False)
    return soft.replace(b"=\n", b"=\r\n")


def _fits(data: bytes) -> bool:
    """Whether it is lines as SMTP carries them: CRLF only, no NUL, none over 998 octets."""
    lines = data.split(b"\r\n")
    if b"\0" in data or max(map(len, lines)) > _LINE:
        return False
    return data.count(b"\r") == data.count(b"\n") == len(lines) - 1


def _cut(header: bytes) -> bytes:
    """At most RETURNED_SIZE octets of it, whole lines."""
    if len(header) <= RETURNED_SIZE:
        return header
    end = header.rfind(b"\r\n", 0, RETURNED_SIZE)
    return header[: end + 2 if end >= 0 else RETURNED_SIZE]
