"""Messages that plugins make: a list's copies, what is forwarded, an automatic answer. The door is `Services.submit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailserv import metrics
from mailserv.accept.context import Context
from mailserv.errors import StoreError
from mailserv.filter import headers
from mailserv.hooks.kinds import is_address
from mailserv.logging import get_logger
from mailserv.mail.address import Address
from mailserv.mail.fields import printable, received_here, return_path_prefix
from mailserv.mail.message import (
    Acceptance,
    Content,
    MailboxDelivery,
    Once,
    PrefixedContent,
    QueuedRecipient,
    SplicedContent,
    header_section,
)
from mailserv.mail.plugin import SubmitError
from mailserv.mail.reply import BINARY_REFUSED, Severity
from mailserv.mail.resolution import Resolution
from mailserv.mail.trace import TraceEntry
from mailserv.mail.value import replace
from mailserv.protocol.dots import Newlines

_log = get_logger("accept")
SAME_DELIVERED_TO = 2  # as for mail from outside (docs/decisions/0013)
REMEMBERED = 2  # times [queue] give_up that a key is known: what is delivered again is in the queue no longer than once

Resolved = list[tuple[Address, Resolution]]


class Submitter:
    """Any thread but the store's writer. See `mailserv.mail.plugin.Submit`."""

    def __init__(self, plugin: str, context: Callable[[], Context]) -> None:
        """`plugin`: whose door it is. `context`: what sessions that begin now work with."""
        self._plugin = plugin
        self._context = context

    def __call__(
        self,
        reverse_path: Address,
        forward_paths: Sequence[Address],
        content: Content,
        *,
        key: str = "",
        smtputf8: bool = False,
    ) -> str:
        if not all(map(is_address, (reverse_path, *forward_paths))):
            raise SubmitError("one of its addresses is none", retry_later=False)
        context = self._context()
        once = self._once(context, key) if key else None
        if once is not None and (earlier := self._earlier(context, once.key)):
            return earlier  # before anything is looked at: a recipient who is refused by now has got it all the same
        section = header_section(content, context.settings.limits.header_size)
        if headers.count_hops(section) >= context.settings.limits.hops:
            raise SubmitError("it has gone round too often: too many Received fields", retry_later=False)
        resolved = [(path, self._resolve(context, path, reverse_path)) for path in forward_paths]
        acceptance = self._acceptance(context, reverse_path, resolved, content, smtputf8)
        seen = headers.delivered_to(section)
        if any(seen[each.recipient.casefold()] >= SAME_DELIVERED_TO for each in acceptance.mailboxes):
            raise SubmitError("it has gone round: its recipient has had it twice", retry_later=False)
        return self._accept(context, replace(_examined(acceptance), once=once))

    def _once(self, context: Context, key: str) -> Once:
        until = context.clock.now() + REMEMBERED * context.settings.queue.give_up
        return Once(f"{self._plugin} {key}", until)

    def _earlier(self, context: Context, key: str) -> str | None:
        try:
            return context.store.accepted_once(key)
        except StoreError as error:
            raise _unavailable(error) from error

    def _resolve(self, context: Context, path: Address, reverse_path: Address) -> Resolution:
        resolution = context.router.resolve(path, reverse_path=reverse_path)
        refusal = resolution.refusal or context.quotas.refusal(resolution.mailboxes)
        if refusal is not None:
            raise SubmitError(f"<{path}>: {refusal}", retry_later=refusal.severity is Severity.TRANSIENT)
        return resolution

    def _acceptance(
        self, context: Context, reverse_path: Address, resolved: Resolved, content: Content, smtputf8: bool
    ) -> Acceptance:
        now = context.clock.now()
        queue_id = context.queue_ids.make(now)
        mailboxes: dict[tuple[str, str], MailboxDelivery] = {}
        queued: dict[Address, QueuedRecipient] = {}
        for path, resolution in resolved:
            for account, address in resolution.mailboxes:
                prefix = return_path_prefix(reverse_path, address)
                copy = MailboxDelivery(account, str(address), prefix, context.quotas.of(account))
                mailboxes.setdefault((account, address.key), copy)
            for address, route in resolution.remotes:
                queued.setdefault(address, QueuedRecipient(address, path, route))
        trace_field = received_here(context.settings.hostname, queue_id, now)
        is_utf8 = smtputf8 or not all(str(address).isascii() for address in (reverse_path, *queued))
        return Acceptance(
            queue_id=queue_id,
            reverse_path=reverse_path,
            content=PrefixedContent(trace_field, content),
            received_at=now,
            parameters={"SMTPUTF8": ""} if is_utf8 else {},
            mailboxes=tuple(mailboxes.values()),
            queued=tuple(queued.values()),
            trace=(
                TraceEntry(now, "accepted", detail={"service": "plugin", "reverse_path": str(reverse_path)}),
                *(TraceEntry(now, "routed", str(path), _detail(resolution)) for path, resolution in resolved),
            ),
        )

    def _accept(self, context: Context, acceptance: Acceptance) -> str:
        try:
            queue_id = context.store.accept(acceptance)
        except StoreError as error:
            raise _unavailable(error) from error
        if queue_id == acceptance.queue_id:
            self._tell(acceptance)
        return queue_id

    def _tell(self, acceptance: Acceptance) -> None:
        metrics.accepted("plugin").inc()
        _log.info(
            "submitted",
            queue_id=acceptance.queue_id,
            reverse_path=str(acceptance.reverse_path),
            recipients=len(acceptance.trace) - 1,
            mailboxes=len(acceptance.mailboxes),
            queued=len(acceptance.queued),
            size=acceptance.content.size,
        )


def _examined(acceptance: Acceptance) -> Acceptance:
    """As POP3 and DATA can carry it; or said to be binary, as what came so for a list or a forwarder (RFC 3030 §3).

    Raises SubmitError for binary content to a mailbox.
    """
    newlines, last = Newlines(), b""
    for block in acceptance.content.blocks():
        if block:
            newlines.note(block)
            last = block[-1:]
    if newlines.end():
        if acceptance.mailboxes:
            raise SubmitError(str(BINARY_REFUSED), retry_later=False)
        return replace(acceptance, parameters={**acceptance.parameters, "BODY": "BINARYMIME"})
    if last == b"\n":
        return acceptance
    return replace(acceptance, content=SplicedContent(acceptance.content, acceptance.content.size, b"\r\n"))


def _unavailable(error: StoreError) -> SubmitError:
    return SubmitError(f"the store can't take it: {error}", retry_later=True)


def _detail(resolution: Resolution) -> dict[str, str | int | float]:
    found = [f"mailbox:{account}" for account, _ in resolution.mailboxes]
    found += [f"{address} via {route}" for address, route in resolution.remotes]
    return {"to": printable(", ".join(found)), "steps": printable("; ".join(resolution.steps))}
