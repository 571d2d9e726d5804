"""Whether a message gets an automatic answer, and which (RFC 3834)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email import policy
from email.message import EmailMessage, Message
from email.parser import HeaderParser

from mailserv.mail.address import Address, parse_mailbox
from mailserv.mail.address_list import read_addresses
from mailserv.mail.fields import date_time, printable

# RFC 3834 §2: no person is behind these local-parts.
_NOBODY = re.compile(
    r"mailer-daemon|postmaster|.*no-?reply.*|.*do-?not-?reply.*|bounces?|owner-.*|.*-(owner|request|bounces?)(\+.*)?"
    r"|listserv|majordomo|srs[01][-+=].*|bounces?[-+=].*",
    re.IGNORECASE,
)
SUBJECT = 200  # characters of the subject that go into ours
REFERENCES = 900  # octets; a longer field would only be broken by somebody
LOOKED_AT = 10 * REFERENCES  # characters of a field that are looked at for them: its end


def why_not(reverse_path: Address, header: bytes, mine: Iterable[str]) -> str:
    """Why a message with this header section gets no answer; "" when it gets one. `mine`: `Address.key`s of the user."""
    if reverse_path.is_null:
        return "it has no sender"
    if _NOBODY.fullmatch(reverse_path.local_part):
        return "its sender is a program"
    message = _parse(header)
    if any(str(value).partition(";")[0].strip().lower() != "no" for value in message.get_all("Auto-Submitted", [])):
        return "it is an automatic message itself"
    if any(str(value).strip().lower() in {"bulk", "list", "junk"} for value in message.get_all("Precedence", [])):
        return "it is bulk mail"
    if any(name.lower().startswith("list-") for name in message):
        return "it came by a list"
    suppressed = {word.strip().lower() for word in str(message.get("X-Auto-Response-Suppress", "")).split(",")}
    if suppressed & {"all", "oof", "autoreply"}:
        return "it asks for no answer"
    fields = ("To", "Cc", "Bcc", "Resent-To", "Resent-Cc")
    values = [str(value) for name in fields for value in message.get_all(name, [])]
    if {_key(address) for value in values for _, address in read_addresses(value)}.isdisjoint(mine):
        return "it is not addressed to the user"  # RFC 3834 §2: lists that do not say so, blind copies
    return ""


def answer(
    user: Address, recipient: Address, header: bytes, text: str, subject: str, now: float, queue_id: str
) -> bytes:
    """The answer, whole, with CRLF line ends; pure ASCII on the wire, if both addresses are."""
    question = _parse(header)
    is_ascii = user.is_ascii and recipient.is_ascii
    told = printable(str(question.get("Subject", "")), SUBJECT, keep_utf8=True)
    reply = EmailMessage(policy=policy.SMTP if is_ascii else policy.SMTPUTF8)
    reply["From"] = str(user)
    reply["To"] = str(recipient)
    reply["Subject"] = subject or f"Auto: {told}".strip()
    reply["Date"] = date_time(now)
    reply["Message-ID"] = f"<{queue_id}.vacation@{user.domain}>"
    message_id = _ids(question.get("Message-ID"))
    if message_id:
        reply["In-Reply-To"] = message_id
        reply["References"] = f"{_ids(question.get('References'))} {message_id}".strip()
    reply["Auto-Submitted"] = "auto-replied"  # RFC 3834 §5
    reply["Precedence"] = "bulk"  # for programs that are older than that
    reply.set_content(text, cte="quoted-printable")
    return bytes(reply)


def _key(text: str) -> str:
    """`Address.key`; "" for what is no address."""
    try:
        return parse_mailbox(text).key
    except ValueError:
        return ""


def _ids(value: object) -> str:
    """Message identifiers that may stand in a field of ours: the last ones of too many."""
    found = re.findall(r"<[!-;=?-~]{3,250}>", str(value or "")[-LOOKED_AT:])
    while sum(map(len, found)) > REFERENCES:
        del found[0]
    return " ".join(found)


def _parse(header: bytes) -> Message:
    """By compat32's lenient rules: a header section of a stranger never raises. UTF-8 is read as such (RFC 6532 §3).

    Nothing is made of Content-Type: the library takes the square of its parameters to find a boundary.
    """
    return HeaderParser(policy=policy.compat32).parsestr(header.decode("utf-8", "replace"))
