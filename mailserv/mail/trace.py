"""One decision in a message's life, kept so that an operator can ask why."""

from __future__ import annotations

from collections.abc import Mapping

from mailserv.mail.fields import printable
from mailserv.mail.value import Value, field
from mailserv.mail.verdict import Observed


class TraceEntry(Value, frozen=True):
    """`event` is a word (accepted, routed, delivered, deferred, failed, bounced, held, …), `recipient` "" for the message.

    `detail` values are short printable strings or numbers; who makes an entry from wire text cleans it first.
    """

    at: float
    event: str
    recipient: str = ""
    detail: Mapping[str, str | int | float] = field(default_factory=dict)


def observed_entry(at: float, each: Observed, recipient: str = "") -> TraceEntry:
    """What a plugin on trial would have done."""
    reply, why = printable(str(each.verdict.reply)), printable(each.verdict.reason)
    return TraceEntry(at, "observed", recipient, {"plugin": each.plugin, "hook": each.hook, "reply": reply, "why": why})
