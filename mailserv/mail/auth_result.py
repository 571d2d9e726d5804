"""What was found out about who sent a message: one result of an Authentication-Results field (RFC 8601 §2.2)."""

from __future__ import annotations

from mailserv.mail.value import Value


class AuthResult(Value, frozen=True):
    """`method` and `result` are words of the IANA registry ("iprev", "pass"); `reason` and `comment` are for people.

    `properties`: ("policy.iprev", "192.0.2.1") pairs. Text of a peer may stand in all but the words: it is made harmless.
    """

    method: str
    result: str
    properties: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    comment: str = ""


AuthResults = tuple[AuthResult, ...]
