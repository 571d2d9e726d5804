"""What one delivery attempt came to, per recipient."""

from __future__ import annotations

from dataclasses import dataclass

from mailserv.mail.reply import Reply


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next hop took responsibility. `remote` names it ("mx.example.net [192.0.2.1]:25"), "" when local."""

    reply: Reply
    remote: str = ""


@dataclass(frozen=True, slots=True)
class Deferred:
    """A transient failure (4xx, no connection, DNS trouble): try again later."""

    reply: Reply
    remote: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """A permanent failure (5xx, null MX, no such domain): do not try again."""

    reply: Reply
    remote: str = ""


Outcome = Delivered | Deferred | Failed
