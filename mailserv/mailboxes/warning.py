"""The message that tells somebody that his mailbox is nearly full (RFC 3834 §5: Auto-Submitted, from <>)."""

from __future__ import annotations

import textwrap

from mailserv.config.units import show_size
from mailserv.mail.address import NULL_REVERSE_PATH, parse_mailbox
from mailserv.mail.fields import date_time, received_here, return_path_prefix
from mailserv.mail.message import Acceptance, BytesContent, MailboxDelivery
from mailserv.mail.trace import TraceEntry
from mailserv.store.interface import Usage


def compose(account: str, usage: Usage, quota: int, *, hostname: str, queue_id: str, now: float) -> Acceptance:
    """To the mailbox itself, whatever its quota says: it is small. Pure."""
    address = parse_mailbox(account)
    content = _document(account, usage, quota, hostname, queue_id, now)
    is_utf8 = not content.isascii()
    return Acceptance(
        queue_id=queue_id,
        reverse_path=NULL_REVERSE_PATH,
        content=BytesContent(content),
        received_at=now,
        parameters={"BODY": "8BITMIME", "SMTPUTF8": ""} if is_utf8 else {},
        mailboxes=(MailboxDelivery(account, account, return_path_prefix(NULL_REVERSE_PATH, address)),),
        trace=(
            TraceEntry(now, "accepted", detail={"notice": "nearly full", "reverse_path": "", "size": len(content)}),
            TraceEntry(now, "routed", account, {"to": f"mailbox:{account}"}),
        ),
    )


def _document(account: str, usage: Usage, quota: int, hostname: str, queue_id: str, now: float) -> bytes:
    fields = [
        f"Date: {date_time(now)}",
        f"From: Mail System <MAILER-DAEMON@{hostname}>",
        f"To: <{account}>",
        f"Subject: Your mailbox is {_percent(usage, quota)} % full",
        f"Message-ID: <{queue_id}@{hostname}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f"Content-Type: text/plain; charset={'us-ascii' if account.isascii() else 'utf-8'}",
    ]
    if not account.isascii():
        fields.append("Content-Transfer-Encoding: 8bit")
    head = "".join(f"{field}\r\n" for field in fields)
    body = "\n\n".join(map(_wrapped, _words(account, usage, quota, hostname))).replace("\n", "\r\n")
    return received_here(hostname, queue_id, now) + f"{head}\r\n{body}\r\n".encode()


def _words(account: str, usage: Usage, quota: int, hostname: str) -> list[str]:
    return [
        f"This is the mail system at {hostname}.",
        f"The mailbox of {account} holds {usage.messages} messages of {_shown(usage.octets)} together. It may hold "
        f"{_shown(quota)}; it is {_percent(usage, quota)} % full.",
        "Please fetch your messages and delete what you no longer need here. When the mailbox is full, new messages "
        "wait at their senders' for some days, and are then returned.",
        "You are told this once, and again only when the mailbox has had room and is nearly full anew.",
    ]


def _percent(usage: Usage, quota: int) -> int:
    return int(100 * usage.octets / quota)


def _shown(octets: int) -> str:
    """Rounded to what a person reads: 12,345,678 is 12MB."""
    for unit in (10**9, 10**6, 10**3):
        if octets >= 10 * unit:
            return show_size(octets // unit * unit)
    return show_size(octets)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 76, break_long_words=False, break_on_hyphens=False)
