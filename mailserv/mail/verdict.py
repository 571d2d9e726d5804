"""What a deciding hook may say: only stricter, never more permissive (invariant 4)."""

from __future__ import annotations

from enum import IntEnum

from mailserv.mail.reply import Reply
from mailserv.mail.value import Value, field


class Action(IntEnum):
    """Ordered by strictness; the strictest of all answers wins."""

    TEMPFAIL = 1
    REJECT = 2
    DISCONNECT = 3


class Verdict(Value, frozen=True):
    """A refusal: what to do, what to tell the peer, and why (for trace and log, never for the peer)."""

    action: Action
    reply: Reply
    reason: str = field(default="")


class Observed(Value, frozen=True):
    """The verdict of a plugin with `mode = "observe"`: what it would have done."""

    plugin: str
    hook: str
    verdict: Verdict


def tempfail(text: str, *, enhanced: str = "4.7.1", code: int = 451, reason: str = "") -> Verdict:
    """Refuse this command for now."""
    return Verdict(Action.TEMPFAIL, Reply(code, enhanced, text), reason or text)


def reject(text: str, *, enhanced: str = "5.7.1", code: int = 550, reason: str = "") -> Verdict:
    """Refuse this command for good."""
    return Verdict(Action.REJECT, Reply(code, enhanced, text), reason or text)


def disconnect(text: str, *, enhanced: str = "4.7.0", code: int = 421, reason: str = "") -> Verdict:
    """Refuse and close the session."""
    return Verdict(Action.DISCONNECT, Reply(code, enhanced, text), reason or text)
