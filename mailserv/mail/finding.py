"""What a scanner found in a message."""

from __future__ import annotations

from mailserv.mail.value import Value
from mailserv.mail.verdict import Verdict


class Finding(Value, frozen=True):
    """`found` names it, "" for nothing; `score` where the scanner counts. `verdict`: None lets the message pass.

    `fields`: (name, value) of header fields that the message gets when it is accepted, each one line. Words of the scanner
    may stand in all of them: they are made harmless.
    """

    found: str = ""
    score: float | None = None
    verdict: Verdict | None = None
    fields: tuple[tuple[str, str], ...] = ()
