"""Who is told what when an attempt has ended (RFC 5321 §6.1, RFC 3461 §4.1, §5.2).

A failure is told to the reverse-path, unless NOTIFY says otherwise: all failed recipients of one delivery in one DSN.
A message from <> is never answered (RFC 5321 §4.5.5, invariant 3). When it fails, or when the reverse-path is refused
here, the postmaster is told instead, once: that notice comes from <> too, and when mail from <> to the postmaster fails,
there is nobody left to tell. So every chain of notices ends after two.

A delay is told once, and only to our own: a login, or a reverse-path that is ours; to others when NOTIFY=DELAY asks.
A success is told to whoever asked by NOTIFY=SUCCESS, unless the next hop will tell it.

Plugins may stop what is told of a recipient, and change the words; whom it goes to is never theirs to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mailserv.bounce.asking import NoticeHooks
from mailserv.bounce.dsn import compose
from mailserv.bounce.notice import words
from mailserv.mail.address import NULL_REVERSE_PATH, Address
from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.fields import printable, return_path_prefix
from mailserv.mail.message import Acceptance, MailboxDelivery, QueuedRecipient
from mailserv.mail.notice import Notice, NoticeKind, NoticeWords
from mailserv.mail.outcome import Delivered, Outcome, Success
from mailserv.mail.queue_id import QueueIds
from mailserv.mail.resolution import Resolution
from mailserv.mail.trace import TraceEntry
from mailserv.mail.value import replace

Rows = Sequence[tuple[QueuedRow, Outcome]]
Trace = list[TraceEntry] | None

NULL_REASON = "the message came from <>, which is never answered"


class Bouncer:
    """Makes the notices that the queue commits together with the rows they are about. Any thread; no I/O but reading the
    header section of the message. Raises PluginError: nobody knows now what to tell.

    `trace`, where it is given, gets what is to be said of the message itself: that a plugin stopped something."""

    def __init__(
        self,
        *,
        hostname: str,
        resolve: Callable[[Address], Resolution],
        queue_ids: QueueIds,
        postmaster: Address | None = None,
        hooks: NoticeHooks | None = None,
    ) -> None:
        """`resolve` is `Router.resolve`. `postmaster` is who hears of what nobody else can; <postmaster> by default."""
        self._hostname = hostname
        self._resolve = resolve
        self._queue_ids = queue_ids
        self._postmaster = postmaster or Address("postmaster", "")
        self._hooks = hooks or NoticeHooks()

    def failed(self, delivery: Delivery, rows: Rows, now: float, trace: Trace = None) -> tuple[Acceptance, ...]:
        """For rows that failed for good or were given up: their notice, or () when nobody is to be told.

        `rows` are all of this delivery's that ended so; a Delivered among them is passed over.
        """
        told = _wanted(_undelivered(rows), "FAILURE", by_default=True)
        if delivery.reverse_path.is_null:
            return self._tell_postmaster(delivery, told, now, NULL_REASON, trace)
        if not told:
            return ()
        resolution = self._resolve(delivery.reverse_path)
        if resolution.refusal:
            reason = f"its sender can't be told: {printable(str(resolution.refusal))}"
            return self._tell_postmaster(delivery, told, now, reason, trace)
        notice = self._notice(NoticeKind.FAILED, delivery, told, now, to=delivery.reverse_path)
        return self._written(notice, resolution, trace)

    def delayed(
        self, delivery: Delivery, rows: Rows, now: float, give_up_at: float, trace: Trace = None
    ) -> tuple[Acceptance, ...]:
        """For rows that are still tried, until `give_up_at`: their one delay notice, or () when nobody is to be told.

        The caller marks all of `rows` as notified, also when nothing came of it.
        """
        waiting = [(row, outcome) for row, outcome in rows if not row.delay_notified]
        if delivery.reverse_path.is_null or not waiting:
            return ()
        resolution = self._resolve(delivery.reverse_path)
        told = _wanted(_undelivered(waiting), "DELAY", by_default=bool(delivery.login) or resolution.is_local)
        if resolution.refusal or not told:
            return ()
        notice = self._notice(NoticeKind.DELAYED, delivery, told, now, to=delivery.reverse_path, give_up_at=give_up_at)
        return self._written(notice, resolution, trace)

    def succeeded(self, delivery: Delivery, rows: Rows, now: float, trace: Trace = None) -> tuple[Acceptance, ...]:
        """For rows that were delivered: the notice to a reverse-path that asked (RFC 3461 §5.2.2, §5.2.3), or ()."""
        arrived = [(row, o) for row, o in rows if isinstance(o, Delivered) and o.success is not Success.HANDED_ON]
        told = _wanted(arrived, "SUCCESS", by_default=False)
        if delivery.reverse_path.is_null or not told:
            return ()
        resolution = self._resolve(delivery.reverse_path)
        if resolution.refusal:
            return ()
        notice = self._notice(NoticeKind.SUCCEEDED, delivery, told, now, to=delivery.reverse_path)
        return self._written(notice, resolution, trace)

    def _tell_postmaster(
        self, delivery: Delivery, rows: Rows, now: float, reason: str, trace: Trace
    ) -> tuple[Acceptance, ...]:
        if delivery.reverse_path.is_null:
            rows = [(row, outcome) for row, outcome in rows if not self._is_postmaster(row.original)]
        if not rows:
            return ()
        resolution = self._resolve(self._postmaster)
        if resolution.refusal:
            return ()
        to = self._postmaster if self._postmaster.domain else Address("postmaster", self._hostname)
        notice = self._notice(NoticeKind.UNTOLD, delivery, rows, now, to=to, reason=reason)
        return self._written(notice, resolution, trace)

    def _written(self, notice: Notice, resolution: Resolution, trace: Trace) -> tuple[Acceptance, ...]:
        """What plugins leave of it, as a message."""
        rows = self._hooks.permitted(notice, trace)
        if not rows:
            return ()
        notice = replace(notice, rows=rows)
        return (_acceptance(notice, self._hooks.words(notice, words(notice)), resolution),)

    def _is_postmaster(self, original: Address) -> bool:
        return original == self._postmaster or original.local_part.casefold() == "postmaster"

    def _notice(
        self,
        kind: NoticeKind,
        delivery: Delivery,
        rows: Rows,
        now: float,
        *,
        to: Address,
        give_up_at: float = 0.0,
        reason: str = "",
    ) -> Notice:
        return Notice(
            kind=kind,
            queue_id=self._queue_ids.make(now),
            hostname=self._hostname,
            to=to,
            delivery=delivery,
            rows=tuple(rows),
            now=now,
            give_up_at=give_up_at,
            reason=reason,
        )


def _undelivered(rows: Rows) -> Rows:
    return [(row, outcome) for row, outcome in rows if not isinstance(outcome, Delivered)]


def _wanted(rows: Rows, event: str, *, by_default: bool) -> list[tuple[QueuedRow, Outcome]]:
    """The rows whose NOTIFY (RFC 3461 §4.1: NEVER, or a list of SUCCESS, FAILURE, DELAY) asks for `event`."""
    return [(row, outcome) for row, outcome in rows if asks(row.parameters, event, by_default)]


def asks(parameters: Mapping[str, str], event: str, by_default: bool = False) -> bool:
    """Whether RCPT's parameters ask to be told of `event`; `by_default` where NOTIFY says nothing."""
    notify = parameters.get("NOTIFY")
    if not notify:
        return by_default
    return event in (word.strip() for word in notify.upper().split(","))


def _acceptance(notice: Notice, said: NoticeWords, resolution: Resolution) -> Acceptance:
    """The notice as a message like any other, from <> to wherever `notice.to` leads."""
    document = compose(notice, said)
    return Acceptance(
        queue_id=notice.queue_id,
        reverse_path=NULL_REVERSE_PATH,
        content=document.content,
        received_at=notice.now,
        parameters=document.parameters,
        mailboxes=tuple(
            MailboxDelivery(account, str(address), return_path_prefix(NULL_REVERSE_PATH, address))
            for account, address in resolution.mailboxes
        ),
        queued=tuple(QueuedRecipient(address, notice.to, route) for address, route in resolution.remotes),
        trace=_trace(notice, resolution, document.content.size),
    )


def _trace(notice: Notice, resolution: Resolution, size: int) -> tuple[TraceEntry, ...]:
    """The notice's own biography begins: what it is about, and where it goes."""
    about: dict[str, str | int | float] = {
        "notice": notice.kind.value,
        "about": notice.delivery.queue_id,
        "reverse_path": "",
        "size": size,
    }
    found = [f"mailbox:{account}" for account, _ in resolution.mailboxes]
    found += [f"{address} via {route}" for address, route in resolution.remotes]
    routed = {"to": ", ".join(found), "steps": "; ".join(resolution.steps)}
    return (
        TraceEntry(notice.now, "accepted", detail=about),
        TraceEntry(notice.now, "routed", str(notice.to), routed),
    )
