"""Success that is known at acceptance (RFC 3461 §5.2.3, §5.2.7): a mailbox is the delivery, an alias is expanded here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mailserv.bounce.policy import Bouncer, asks
from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.envelope import Recipient
from mailserv.mail.message import Acceptance
from mailserv.mail.outcome import Delivered, Success
from mailserv.mail.reply import Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import MAILBOX, Route
from mailserv.mail.trace import TraceEntry
from mailserv.mail.value import replace

_IN_MAILBOX = Delivered(Reply(250, "2.1.5", "Delivered"))
_EXPANDED = Delivered(Reply(250, "2.1.5", "Expanded"), success=Success.EXPANDED)

Resolved = Iterable[tuple[Recipient, Resolution]]


def success_notices(
    bouncer: Bouncer, acceptance: Acceptance, resolved: Resolved
) -> tuple[Acceptance, tuple[Acceptance, ...]]:
    """What the reverse-path is to be told at once, committed together with the message, whose trace may have got longer.
    Raises what `Bouncer` does."""
    rows = [row for recipient, resolution in resolved for row in _rows(recipient, resolution)]
    if not rows:
        return acceptance, ()
    delivery = Delivery(
        queue_id=acceptance.queue_id,
        reverse_path=acceptance.reverse_path,
        parameters=acceptance.parameters,
        content=acceptance.content,
        received_at=acceptance.received_at,
        login=acceptance.login,
        route=Route(MAILBOX, ""),
        rows=tuple(row for row, _ in rows),
        peer_ip=acceptance.peer_ip,
    )
    trace: list[TraceEntry] = []
    notices = bouncer.succeeded(delivery, rows, acceptance.received_at, trace)
    return (replace(acceptance, trace=(*acceptance.trace, *trace)) if trace else acceptance), notices


def parameters_onward(recipient: Recipient, resolution: Resolution) -> Mapping[str, str]:
    """RCPT's parameters for where an address leads: whoever was told "expanded" hears of no single success (§5.2.7.3)."""
    if not (asks(recipient.parameters, "SUCCESS") and _is_expanded(resolution)):
        return recipient.parameters
    words = recipient.parameters["NOTIFY"].upper().split(",")
    rest = ",".join(word for word in words if word != "SUCCESS")
    return {**recipient.parameters, "NOTIFY": rest or "NEVER"}


def _is_expanded(resolution: Resolution) -> bool:
    return len(resolution.mailboxes) + len(resolution.remotes) > 1


def _rows(recipient: Recipient, resolution: Resolution) -> list[tuple[QueuedRow, Delivered]]:
    if not asks(recipient.parameters, "SUCCESS"):
        return []
    original = recipient.forward_path
    if _is_expanded(resolution):
        return [(QueuedRow(0, original, original, recipient.parameters, 0, False), _EXPANDED)]
    return [
        (QueuedRow(0, address, original, recipient.parameters, 0, False), _IN_MAILBOX)
        for _, address in resolution.mailboxes
    ]
