"""What one delivery attempt came to, per recipient."""

from __future__ import annotations

from enum import Enum

from mailserv.mail.reply import Reply
from mailserv.mail.value import Value


class Success(Enum):
    """What a success is to somebody who asked to be told of it (RFC 3461 §5.2): the Action field's word (RFC 3464 §2.3.3)."""

    DELIVERED = "delivered"  # it is in the recipient's hands
    RELAYED = "relayed"  # to a next hop that does not speak DSN: nobody will tell more
    EXPANDED = "expanded"  # to the several addresses of an alias
    HANDED_ON = "handed on"  # to a next hop that speaks DSN, and tells of it itself


class Delivered(Value, frozen=True):
    """The next hop took responsibility. `remote` names it ("mx.example.net [192.0.2.1]:25"), "" when local."""

    reply: Reply
    remote: str = ""
    success: Success = Success.DELIVERED


class Deferred(Value, frozen=True):
    """A transient failure (4xx, no connection, DNS trouble): try again later.

    `is_ours`: the reply is what was found out here about `remote`, which said no such thing: no connection, no TLS.
    """

    reply: Reply
    remote: str = ""
    is_ours: bool = False


class Failed(Value, frozen=True):
    """A permanent failure (5xx, null MX, no such domain): do not try again. `is_ours`: as in Deferred."""

    reply: Reply
    remote: str = ""
    is_ours: bool = False


Outcome = Delivered | Deferred | Failed
