"""Deliveries that went wrong and a bouncer to tell of them, for the tests of bounces."""

from __future__ import annotations

import email
import email.policy
import random
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Any

from mailserv.bounce.policy import Bouncer
from mailserv.mail.address import Address, parse_mailbox
from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.message import Acceptance, BytesContent
from mailserv.mail.outcome import Deferred, Failed, Outcome
from mailserv.mail.queue_id import QueueIds
from mailserv.mail.reply import UNKNOWN_USER, Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route

NOW = 1_767_225_600.0  # Thu, 01 Jan 2026 00:00:00 +0000
ALICE = Address("alice", "example.org")
BOB = Address("bob", "example.net")
CONTENT = (
    b"Received: from client by mx.example.org; today\r\n"
    b"Message-ID: <original@example.org>\r\n"
    b"Subject: Lunch?\r\n"
    b"\r\n"
    b"Are you hungry?\r\n"
)
NO_USER = Failed(Reply(550, "5.1.1", "No such user"), "mx.example.net [192.0.2.25]:25")
BUSY = Deferred(Reply(451, "4.3.2", "Come again later"), "mx.example.net [192.0.2.25]:25")


def row(path: str = "bob@example.net", **more: Any) -> QueuedRow:
    address = parse_mailbox(path)
    made: dict[str, Any] = {"row_id": 1, "original": address, "parameters": {}, "attempts": 0, "delay_notified": False}
    return QueuedRow(forward_path=address, **{**made, **more})


def delivery(content: bytes = CONTENT, **more: Any) -> Delivery:
    made: dict[str, Any] = {
        "queue_id": "ORIGINALQID00001",
        "reverse_path": ALICE,
        "parameters": {},
        "received_at": NOW - 3600,
        "login": "",
        "route": Route("smtp", "example.net"),
        "rows": (),
    }
    return Delivery(content=BytesContent(content), **{**made, **more})


def resolve(address: Address) -> Resolution:
    """alice and the postmaster have mailboxes, info has one and a friend elsewhere, others of ours are unknown."""
    if address.domain not in {"example.org", "mx.example.org", ""}:
        return Resolution(remotes=((address, Route("smtp", address.domain)),), steps=("route",))
    local = address.local_part.casefold().partition("+")[0]
    if local == "alice":
        return Resolution(mailboxes=(("alice@example.org", address),), is_local=True, steps=("mailbox",))
    if local == "info":
        remote = (Address("dave", "example.com"), Route("smtp", "example.com"))
        return Resolution((("alice@example.org", ALICE),), (remote,), is_local=True)
    if local == "postmaster":
        root = Address("root", "example.org")
        return Resolution(mailboxes=(("root@example.org", root),), is_local=True)
    return Resolution(is_local=True, refusal=UNKNOWN_USER)


def bouncer(**more: Any) -> Bouncer:
    made: dict[str, Any] = {"hostname": "mx.example.org", "resolve": resolve, "queue_ids": QueueIds(random.Random(7))}
    return Bouncer(**{**made, **more})


def failed(*rows: tuple[QueuedRow, Outcome], about: Delivery | None = None, **more: Any) -> Acceptance:
    """The one notice of a failure."""
    [acceptance] = bouncer(**more).failed(about or delivery(), rows or ((row(), NO_USER),), NOW)
    return acceptance


def delayed(*rows: tuple[QueuedRow, Outcome], about: Delivery | None = None) -> Acceptance:
    """The one notice of a delay."""
    rows = rows or ((row(), BUSY),)
    [acceptance] = bouncer().delayed(about or delivery(), rows, NOW, give_up_at=NOW + 86_400)
    return acceptance


def data(acceptance: Acceptance) -> bytes:
    return b"".join(acceptance.content.blocks())


def parsed(acceptance: Acceptance) -> EmailMessage:
    message = email.message_from_bytes(data(acceptance), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def words(acceptance: Acceptance) -> str:
    """The human part on one line."""
    part = next(parsed(acceptance).iter_parts())
    assert isinstance(part, EmailMessage)
    return " ".join(part.get_content().split())


def report(acceptance: Acceptance) -> list[Mapping[str, str]]:
    """The fields of the delivery-status part: the message's, then each recipient's."""
    part = list(parsed(acceptance).iter_parts())[1]
    assert part.get_content_type() == "message/delivery-status"
    return [dict(block.items()) for block in part.get_payload()]  # type: ignore[union-attr]


def returned(acceptance: Acceptance) -> EmailMessage:
    part = list(parsed(acceptance).iter_parts())[2]
    assert isinstance(part, EmailMessage)
    return part
