"""A value for every argument that a hook may have: what an ordinary session hands over, and what strangers send."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from mailserv.hooks import specs
from mailserv.mail.address import Address, parse_mailbox
from mailserv.mail.auth_result import AuthResult, AuthResults
from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.envelope import Envelope, Recipient
from mailserv.mail.fields import received_here
from mailserv.mail.message import BytesContent, Content
from mailserv.mail.notice import Notice, NoticeKind, NoticeWords
from mailserv.mail.outcome import Deferred, Outcome
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply
from mailserv.mail.route import SMTP, Route
from mailserv.mail.value import Value, replace

MESSAGE = b"From: alice@example.net\r\nTo: bob@example.org\r\nSubject: A question\r\n\r\nHow are you?\r\n"
_QUEUE_ID = "4bXyTestQueue1"
_RECEIVED = received_here("mail.example.org", _QUEUE_ID, 0.0)


class Sample(Value, frozen=True):
    """One session's values. `what` names it; `content` is what came, without our Received field."""

    what: str
    peer: Peer
    reverse_path: Address
    forward_path: Address
    content: Content

    def arguments(self, hook: str) -> dict[str, Any]:
        """What this hook would be called with: by the argument's name where two have one type, else by its type."""
        values = self._values(hook)
        hints = typing.get_type_hints(getattr(specs, hook))
        return {
            name: values[name] if name in values else values[kind] for name, kind in hints.items() if name != "return"
        }

    def _values(self, hook: str) -> Mapping[Any, Any]:
        has_recipient = hook in ("smtp_data", "message_check", "message_accepted")
        recipients = (Recipient(self.forward_path),) if has_recipient else ()
        route = Route(SMTP, self.forward_path.domain)
        row = QueuedRow(1, self.forward_path, self.forward_path, {}, 1, False)
        outcome = Deferred(Reply(451, "4.3.0", "Later"), "mx.example.org [192.0.2.2]:25")
        content = BytesContent(_RECEIVED + b"".join(self.content.blocks()))
        delivery = Delivery(_QUEUE_ID, self.reverse_path, {}, content, 0.0, self.peer.login, route, (row,))
        told = self.forward_path if self.reverse_path.is_null else self.reverse_path
        return {
            Peer: self.peer,
            Envelope: Envelope(self.reverse_path, recipients),
            Address: self.forward_path,
            "reverse_path": self.reverse_path,
            Content: content,
            Route: route,
            QueuedRow: row,
            Delivery: delivery,
            Outcome: outcome,
            Notice: Notice(NoticeKind.DELAYED, "B", "mail.example.org", told, delivery, ((row, outcome),), 1.0),
            AuthResults: (AuthResult("iprev", "pass", (("policy.iprev", "192.0.2.1"),)),),
            NoticeWords: NoticeWords("A subject", "Some text.\n"),
            "queue_id": _QUEUE_ID,
            "next_hop": route.next_hop,
            "host": "mx.example.org",
            "ip": self.peer.ip,
            "service": self.peer.service,
            "session_id": self.peer.session_id,
            str: "alice@example.net",
            float: 60.0,
            int: 1,
            bool: False,
        }


ORDINARY = Sample(
    "an ordinary message",
    Peer("192.0.2.1", 4321, "smtp", "0123456789ab", helo="client.example.net", esmtp=True),
    parse_mailbox("alice@example.net"),
    parse_mailbox("bob@example.org"),
    BytesContent(MESSAGE),
)
_BIG = b"".join(b"X-Long-%d: %s\r\n" % (number, b"a" * 900) for number in range(2300))  # some 2 MB
STRANGE = (
    replace(ORDINARY, what="the null reverse-path", reverse_path=Address("", "")),
    replace(ORDINARY, what="IPv6 and no EHLO", peer=Peer("2001:db8::1", 4321, "smtp", "0123456789ab")),
    replace(
        ORDINARY,
        what="UTF-8 addresses",
        reverse_path=parse_mailbox("пётр@example.net"),
        forward_path=parse_mailbox('"two words"@example.org'),
    ),
    replace(ORDINARY, what="no header section", content=BytesContent(b"")),
    replace(
        ORDINARY, what="8-bit header", content=BytesContent(b"Subject: \xff\xfe\xe4 \x80\r\nFrom: \xc3\r\n\r\n\xff\r\n")
    ),
    replace(ORDINARY, what="NUL in the header", content=BytesContent(b"Sub\0ject: \0\r\n\0: x\r\n: y\r\n\r\n\0\r\n")),
    replace(ORDINARY, what="header of 2 MB", content=BytesContent(_BIG + b"\r\nx\r\n")),
)
