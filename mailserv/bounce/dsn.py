"""Delivery status notifications: the document (RFC 3464, 6522; internationalised: RFC 6533).

multipart/report of three parts: words for a person, fields for a program, and the header section of the message it is
about (or the whole of it when it failed, RET=FULL asked for that, and it is small, RFC 3461 §4.3). All of it is 7-bit
unless a part must be 8-bit: a whole 8-bit message (no transfer encoding may cover it, RFC 2046 §5.2.1), a To that is not
ASCII.

Whatever a peer said is cleaned before it stands here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.header import Header

from mailserv.bounce import notice
from mailserv.bounce.returned import Part, quoted_printable, returned_part
from mailserv.errors import StoreError
from mailserv.mail.address import Address
from mailserv.mail.delivery import QueuedRow
from mailserv.mail.fields import date_time, printable, received_here
from mailserv.mail.message import BytesContent, header_section
from mailserv.mail.notice import Notice, NoticeKind, NoticeWords
from mailserv.mail.outcome import Deferred, Delivered, Outcome
from mailserv.mail.xtext import decode_xtext

_MESSAGE_ID = re.compile(rb"^message-id[ \t]*+:\s*+(<[!-;=?-~]{3,490}>)[ \t]*+\r?$", re.IGNORECASE | re.MULTILINE)
_ENHANCED = re.compile(r"[245]\.(\d{1,3}\.\d{1,3})")
_UNKNOWN_STATUS = {2: "2.0.0", 4: "4.4.7", 5: "5.0.0"}
_LINE = 998  # octets without CRLF, RFC 5322 §2.1.1
_FOLD_AT = 76  # characters: RFC 5322 §2.1.1 asks for lines of at most 78


@dataclass(frozen=True, slots=True)
class Document:
    """A finished DSN and MAIL's parameters for the way it goes: BODY, SMTPUTF8, or none."""

    content: BytesContent
    parameters: dict[str, str]


def compose(about: Notice, words: NoticeWords | None = None) -> Document:
    """Write the DSN, with `words` in place of our own.

    Reads the header section of the message it is about (its whole when it is returned); pure otherwise. What cannot be read
    is not returned: it may never be read again, and who sent it is told all the same.
    """
    words = words or notice.words(about)
    try:
        header = header_section(about.delivery.content)
        returned = returned_part(about.delivery, header, whole=about.kind is NoticeKind.FAILED)
    except StoreError:
        header = b""
        returned = returned_part(about.delivery, header, whole=False)
    parts = (_words_part(words.text), _status_part(about), returned)
    boundary = _boundary(about.queue_id, parts)
    head = _head(about, words, header, boundary)
    needs_utf8 = not head.isascii()
    content = b"".join((head, *_body(parts, boundary)))
    parameters = {"BODY": "8BITMIME"} if not content.isascii() else {}
    if needs_utf8:
        parameters["SMTPUTF8"] = ""
    return Document(BytesContent(content), parameters)


def _head(about: Notice, words: NoticeWords, header: bytes, boundary: str) -> bytes:
    lines = [
        f"Date: {date_time(about.now)}",
        f"From: Mail Delivery System <MAILER-DAEMON@{about.hostname}>",
        f"To: <{about.to}>",
        _field("Subject", words.subject),
        *(_field(name, value) for name, value in words.fields),
        f"Message-ID: <{about.queue_id}@{about.hostname}>",
        *_thread_fields(header),
        "Auto-Submitted: auto-replied",  # RFC 3834 §5: nobody answers this
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"',
    ]
    received = received_here(about.hostname, about.queue_id, about.now)
    return received + "".join(f"{line}\r\n" for line in lines).encode("utf-8", "replace") + b"\r\n"


def _thread_fields(header: bytes) -> list[str]:
    """In-Reply-To and References (RFC 5322 §3.6.4), so that the notice is shown beside the message it is about."""
    found = _MESSAGE_ID.search(header)
    if not found:
        return []
    message_id = found.group(1).decode("ascii")
    return [f"In-Reply-To: {message_id}", f"References: {message_id}"]


def _body(parts: Sequence[Part], boundary: str) -> Iterator[bytes]:
    yield b"This is a delivery status notification in MIME format (RFC 3464).\r\n"
    for part in parts:
        fields = f"\r\n--{boundary}\r\nContent-Type: {part.content_type}\r\nContent-Description: {part.description}\r\n"
        encoding = f"Content-Transfer-Encoding: {part.encoding}\r\n" if part.encoding != "7bit" else ""
        yield (fields + encoding + "\r\n").encode("ascii")
        yield part.data
    yield f"\r\n--{boundary}--\r\n".encode("ascii")


def _boundary(queue_id: str, parts: Sequence[Part]) -> str:
    """ "=_" stands in no quoted-printable line (RFC 2045 §6.7); returned text that has it all the same is evaded."""
    boundary = f"=_{queue_id}"
    while any(b"--" + boundary.encode("ascii") in part.data for part in parts):
        boundary += "_"
    return boundary


def _field(name: str, value: str) -> str:
    """Folded, and in encoded words where it is not ASCII (RFC 2047)."""
    if value.isascii():
        return _folded(f"{name}: {value}")
    encoded = Header(value, "utf-8", header_name=name).encode(linesep="\r\n")
    return f"{name}: {encoded}"


def _words_part(text: str) -> Part:
    data = text.replace("\n", "\r\n").encode("utf-8", "replace")
    if data.isascii() and max(map(len, data.split(b"\r\n"))) <= _LINE:
        return Part("text/plain; charset=us-ascii", "Notification", "7bit", data)
    return Part("text/plain; charset=utf-8", "Notification", "quoted-printable", quoted_printable(data))


def _status_part(about: Notice) -> Part:
    blocks = [_message_fields(about), *(_recipient_fields(about, row, outcome) for row, outcome in about.rows)]
    text = "\r\n".join("".join(f"{_folded(line)}\r\n" for line in block) for block in blocks)
    return Part("message/delivery-status", "Delivery report", "7bit", text.encode("ascii", "replace"))


def _message_fields(about: Notice) -> list[str]:
    """RFC 3464 §2.2."""
    fields = [f"Reporting-MTA: dns; {about.hostname}"]
    envelope_id = _decoded(about.delivery.parameters.get("ENVID", ""))
    if envelope_id:
        fields.append(f"Original-Envelope-Id: {envelope_id}")
    fields.append(f"Arrival-Date: {date_time(about.delivery.received_at)}")
    fields.append(f"X-Mailserv-Queue-Id: {about.delivery.queue_id}")
    return fields


def _recipient_fields(about: Notice, row: QueuedRow, outcome: Outcome) -> list[str]:
    """RFC 3464 §2.3."""
    delayed = about.kind is NoticeKind.DELAYED
    fields = [
        *_original_recipient(row),
        f"Final-Recipient: {_typed(row.forward_path)}",
        f"Action: {_action(about.kind, outcome)}",
        f"Status: {status(outcome)}",
    ]
    remote = notice.reporting_host(outcome)
    if remote:
        fields.append(f"Remote-MTA: dns; {remote}")
    if remote or not isinstance(outcome, Delivered):
        kind = "smtp" if remote else "x-mailserv"  # RFC 3464 §2.3.6: "smtp" is what Remote-MTA said
        fields.append(f"Diagnostic-Code: {kind}; {printable(str(outcome.reply))}")
    fields.append(f"Last-Attempt-Date: {date_time(about.now)}")
    if delayed and about.give_up_at:
        fields.append(f"Will-Retry-Until: {date_time(about.give_up_at)}")
    return fields


def _action(kind: NoticeKind, outcome: Outcome) -> str:
    """RFC 3464 §2.3.3."""
    if isinstance(outcome, Delivered):
        return outcome.success.value
    return "delayed" if kind is NoticeKind.DELAYED else "failed"


def _original_recipient(row: QueuedRow) -> list[str]:
    """RFC 3464 §2.3.1: what ORCPT says (RFC 3461 §4.2), else the forward-path before our aliases where it is another."""
    kind, _, name = row.parameters.get("ORCPT", "").partition(";")
    text = _original_text(name)
    if kind.isascii() and kind.replace("-", "").isalnum() and text:
        if text.isascii():
            return [f"Original-Recipient: {kind}; {printable(text, 400)}"]
        return [f"Original-Recipient: utf-8; {_in_seven_bits(text)}"]
    if row.original != row.forward_path and row.original.domain:
        return [f"Original-Recipient: {_typed(row.original)}"]
    return []


def _original_text(name: str) -> str:
    """xtext, or plain UTF-8 (RFC 6533 §3); "" for what is neither."""
    try:
        return decode_xtext(name) if name.isascii() else name
    except ValueError:
        return ""


def _typed(address: Address) -> str:
    """An address with its type; outside ASCII in the form that 7-bit transport can carry (RFC 6533 §3)."""
    if address.is_ascii:
        return f"rfc822; {address}"
    return f"utf-8; {_in_seven_bits(str(address))}"


def _in_seven_bits(text: str) -> str:
    """utf-8-addr-xtext, whose QCHAR is any printable character but \\, + and = (RFC 6533 §3)."""
    return "".join(char if " " < char <= "~" and char not in "\\+=" else f"\\x{{{ord(char):X}}}" for char in text)


def _decoded(xtext: str) -> str:
    """xtext as printable ASCII; "" for what is none."""
    try:
        return printable(decode_xtext(xtext), 400)
    except ValueError:
        return ""


def status(outcome: Outcome) -> str:
    """The enhanced status with the class that the outcome has (RFC 3463 §3.1).

    Class 4 also for what was given up: its definition is "abandonment or delay" of a message that may be sent again.
    """
    if isinstance(outcome, Delivered):
        number = 2
    else:
        number = 4 if isinstance(outcome, Deferred) else 5
    found = _ENHANCED.fullmatch(outcome.reply.enhanced)
    if found:
        return f"{number}.{found.group(1)}"
    return _UNKNOWN_STATUS[number]


def _folded(line: str) -> str:
    """RFC 5322 §2.2.3: broken at spaces; a word that is longer than a line stays whole."""
    lines, words = [], line.split(" ")
    current = words[0]
    for word in words[1:]:
        if len(current) + 1 + len(word) > _FOLD_AT:
            lines.append(current)
            current = ""
        current += f" {word}"
    return "\r\n".join([*lines, current])
