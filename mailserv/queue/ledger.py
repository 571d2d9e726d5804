"""What becomes of a row after an attempt: outcomes in, settlements, bounces, trace and log lines out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mailserv import metrics
from mailserv.clock import Clock, DateWatch
from mailserv.errors import PluginError
from mailserv.logging import get_logger
from mailserv.mail.delivery import Attempt, Delivery, QueuedRow
from mailserv.mail.message import Acceptance
from mailserv.mail.outcome import Deferred, Delivered, Failed, Outcome
from mailserv.mail.trace import TraceEntry
from mailserv.queue.asking import QueueHooks
from mailserv.queue.schedule import delay_notice_due, give_up_after, longest_wait, next_attempt, not_past_notice
from mailserv.queue.state import Event, State, after
from mailserv.settings import Queue
from mailserv.store.interface import Settlement, Store

_log = get_logger("queue")

LONGEST_DETAIL = 500  # characters of a remote's words that trace and log keep
TOO_MANY = ("4.5.3", "4.0.0")  # of 452: too many recipients; the second is a server without statuses, as exim is

Rows = list[tuple[QueuedRow, Outcome]]


class Bouncer(Protocol):
    """Makes the delivery status notifications; the ledger commits them. Any thread.

    An outcome in `rows` that is `Deferred` was a transient failure; `failed` is given those that were given up too.
    `trace` gets what there is to say about the message itself.
    """

    def failed(
        self, delivery: Delivery, rows: Sequence[tuple[QueuedRow, Outcome]], now: float, trace: list[TraceEntry]
    ) -> tuple[Acceptance, ...]:
        """The bounces due for recipients that will not be tried again; none where nobody is to be told."""
        ...

    def delayed(
        self,
        delivery: Delivery,
        rows: Sequence[tuple[QueuedRow, Outcome]],
        now: float,
        give_up_at: float,
        trace: list[TraceEntry],
    ) -> tuple[Acceptance, ...]:
        """The delay notices due; asked once for each row."""
        ...

    def succeeded(
        self, delivery: Delivery, rows: Sequence[tuple[QueuedRow, Outcome]], now: float, trace: list[TraceEntry]
    ) -> tuple[Acceptance, ...]:
        """The notices that were asked for about recipients that were delivered."""
        ...


@dataclass(slots=True)
class Ruling:
    """What is to be done about one attempt, before anything is done."""

    settlements: list[Settlement] = field(default_factory=list)
    failed: Rows = field(default_factory=list)
    delayed: Rows = field(default_factory=list)
    delivered: Rows = field(default_factory=list)
    trace: list[TraceEntry] = field(default_factory=list)
    due: float | None = None  # when the first row that goes back is due


def rule(
    attempt: Attempt,
    now: float,
    settings: Queue,
    rng: random.Random,
    *,
    may_end: bool = True,
    gives_up: bool = True,
    hooks: QueueHooks | None = None,
) -> Ruling:
    """Decide for each row of an attempt. `may_end` False: no row ends as failed, it waits however old it is. `gives_up`
    False: none does for its age alone.

    Rows of one message that were tried equally often are due again at the same moment: they share a transaction again.
    Those who were only too many beside others that got it are the next message, at once (RFC 3463 §3.6, X.5.3): each time
    they are fewer.
    """
    delivery = attempt.delivery
    give_up = give_up_after(settings, is_bounce=delivery.reverse_path.is_null)
    ruling = Ruling()
    is_taken = any(isinstance(outcome, Delivered) for outcome in attempt.outcomes)
    times: dict[tuple[int, bool], float | None] = {}
    for row, outcome in zip(delivery.rows, attempt.outcomes, strict=True):
        if isinstance(outcome, Delivered):
            ruling.delivered.append((row, outcome))
            _conclude(ruling, row, outcome, Event.DELIVER, now)
            continue
        if is_taken and _is_one_too_many(outcome):
            _defer(ruling, row, outcome, now, now, notice=False)
            continue
        key, is_over = (row.attempts, row.delay_notified), may_end and isinstance(outcome, Failed)
        if not is_over and key not in times:
            at = _again_at(delivery, row, now, settings, give_up, rng)
            times[key] = at = now + settings.retry[-1] if at is None and not gives_up else at
            if hooks is not None and at is not None:
                times[key] = now + hooks.delay(delivery, row, outcome, max(at - now, 0))
        at = None if is_over else times[key]
        if may_end and at is None:
            ruling.failed.append((row, outcome))
            _conclude(ruling, row, outcome, Event.FAIL, now)
        else:
            at = now + settings.retry[-1] if at is None else at
            notice = not row.delay_notified and delay_notice_due(delivery.received_at, now, settings.delay_notice)
            if notice:
                ruling.delayed.append((row, outcome))
            _defer(ruling, row, outcome, at, now, notice)
    return ruling


def _is_one_too_many(outcome: Outcome) -> bool:
    return outcome.reply.code == 452 and outcome.reply.enhanced in TOO_MANY


def _again_at(
    delivery: Delivery, row: QueuedRow, now: float, settings: Queue, give_up: float, rng: random.Random
) -> float | None:
    at = next_attempt(delivery.received_at, row.attempts, now, settings.retry, give_up, rng)
    if at is None or row.delay_notified:
        return at
    return not_past_notice(at, delivery.received_at, now, settings.delay_notice)


def _conclude(ruling: Ruling, row: QueuedRow, outcome: Outcome, event: Event, now: float) -> None:
    state = after(State.CLAIMED, event)
    ruling.settlements.append(Settlement(row, state, reply=outcome.reply, remote=outcome.remote))
    word = "delivered" if state is State.DONE else "failed"
    given_up = {"given_up": "yes"} if isinstance(outcome, Deferred) else {}
    ruling.trace.append(TraceEntry(now, word, str(row.forward_path), {**_detail(row, outcome), **given_up}))


def _defer(ruling: Ruling, row: QueuedRow, outcome: Outcome, at: float, now: float, notice: bool) -> None:
    ruling.settlements.append(
        Settlement(
            row,
            after(State.CLAIMED, Event.DEFER),
            not_before=at,
            reply=outcome.reply,
            remote=outcome.remote,
            delay_notified=row.delay_notified or notice,
        )
    )
    detail = {**_detail(row, outcome), "next_attempt": round(at, 3)}
    ruling.trace.append(TraceEntry(now, "deferred", str(row.forward_path), detail))
    ruling.due = at if ruling.due is None else min(ruling.due, at)


def _detail(row: QueuedRow, outcome: Outcome) -> dict[str, str | int | float]:
    return {"remote": printable(outcome.remote), "reply": printable(str(outcome.reply)), "attempt": row.attempts + 1}


def printable(text: str) -> str:
    """A remote's words, fit for one line of a log or a terminal (docs/lessons.md 6)."""
    text = text[:LONGEST_DETAIL]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


class Ledger:
    """Carries rulings out: one transaction for each call. Any thread. Raises StoreError, with nothing done."""

    def __init__(
        self,
        store: Store,
        bouncer: Bouncer,
        clock: Clock,
        rng: random.Random,
        settings: Queue,
        hooks: QueueHooks | None = None,
    ) -> None:
        self.settings = settings  # replaced as a whole at a reload
        self._store = store
        self._bouncer = bouncer
        self._clock = clock
        self._rng = rng
        self._hooks = hooks or QueueHooks()
        self.date = DateWatch(clock)

    @property
    def longest_wait(self) -> float:
        """Seconds that a row waits at most; one that is due later was put off while the machine's date was ahead."""
        return self._hooks.longest_delay(longest_wait(self.settings.retry))

    def settle(self, owner: str, attempts: Sequence[Attempt], *, wait: bool) -> float | None:
        """Settle every row of these attempts; when the first one that goes back is due, None if none does."""
        now, gives_up = self._clock.now(), not self.date.is_in_doubt()
        rulings: list[tuple[Attempt, Ruling]] = []
        waiting: list[Attempt] = []
        bounces: list[Acceptance] = []
        words: list[str] = []  # what each of them is, in the trace
        trace: list[tuple[str, TraceEntry]] = []
        for attempt in attempts:
            ruling = rule(attempt, now, self.settings, self._rng, gives_up=gives_up, hooks=self._hooks)
            queue_id = attempt.delivery.queue_id
            about = ruling.trace.copy()
            try:
                notices = self._notices(attempt.delivery, ruling, now, about)
            except PluginError as error:  # nobody knows now what to tell, or whom: these rows wait, the others go on
                _log.warning("notice_waits", queue_id=queue_id, error=str(error))
                waiting.append(attempt)
                continue
            rulings.append((attempt, ruling))
            bounces += [made for _, made in notices]
            words += [word for word, _ in notices]
            about += [TraceEntry(now, word, "", {"queue_id": made.queue_id}) for word, made in notices]
            trace += [(queue_id, entry) for entry in about]
        if rulings:
            self._store.settle(owner, [s for _, r in rulings for s in r.settlements], bounces, trace, wait=wait)
        for attempt, ruling in rulings:
            self._tell(attempt, ruling, now)
        for word in words:
            metrics.bounces(word).inc()
        again = self.rescue(owner, waiting) if waiting else None
        return min((due for due in (again, *(r.due for _, r in rulings)) if due is not None), default=None)

    def rescue(self, owner: str, attempts: Sequence[Attempt]) -> float | None:
        """The same for attempts whose bounces could not be made: what was delivered is marked so, the rest waits."""
        now = self._clock.now()
        rulings = [(a, rule(a, now, self.settings, self._rng, may_end=False)) for a in attempts]
        for attempt, ruling in rulings:
            ruling.settlements = [_unnotified(s) for s in ruling.settlements]
            trace = [(attempt.delivery.queue_id, entry) for entry in ruling.trace]
            self._store.settle(owner, ruling.settlements, (), trace)
            self._tell(attempt, ruling, now)
        return min((r.due for _, r in rulings if r.due is not None), default=None)

    def _tell(self, attempt: Attempt, ruling: Ruling, now: float) -> None:
        delivery = attempt.delivery
        for entry in ruling.trace:
            metrics.attempts(delivery.route.transport, entry.event).inc()
            _log.info(
                "delivery",
                queue_id=delivery.queue_id,
                recipient=entry.recipient,
                route=str(delivery.route),
                outcome=entry.event,
                delay=round(now - delivery.received_at, 3),
                **entry.detail,
            )
        for row, outcome in [*ruling.delivered, *ruling.failed]:
            self._hooks.finished(delivery, row, outcome)

    def give_back(self, owner: str, deliveries: Sequence[Delivery], not_before: float) -> None:
        """The attempt never came to these: they are ready again, and it does not count."""
        state = after(State.CLAIMED, Event.RETURN)
        back = [
            Settlement(row, state, not_before=not_before, delay_notified=row.delay_notified, counts_attempt=False)
            for delivery in deliveries
            for row in delivery.rows
        ]
        if back:
            self._store.settle(owner, back)

    def _notices(
        self, delivery: Delivery, ruling: Ruling, now: float, trace: list[TraceEntry]
    ) -> list[tuple[str, Acceptance]]:
        made: list[tuple[str, Acceptance]] = []
        if ruling.failed:
            made += [("bounced", a) for a in self._bouncer.failed(delivery, ruling.failed, now, trace)]
        if any("NOTIFY" in row.parameters for row, _ in ruling.delivered):
            made += [("success_notice", a) for a in self._bouncer.succeeded(delivery, ruling.delivered, now, trace)]
        if ruling.delayed:
            is_bounce = delivery.reverse_path.is_null
            give_up_at = delivery.received_at + give_up_after(self.settings, is_bounce=is_bounce)
            late = self._bouncer.delayed(delivery, ruling.delayed, now, give_up_at, trace)
            made += [("delay_notice", a) for a in late]
        return made


def _unnotified(settlement: Settlement) -> Settlement:
    """The delay notice was not made either: it is due again next time."""
    return Settlement(
        settlement.row,
        settlement.state,
        settlement.not_before,
        settlement.reply,
        settlement.remote,
        settlement.row.delay_notified,
    )
