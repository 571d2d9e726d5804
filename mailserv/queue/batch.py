"""One worker's turn with one destination: claim rows, stream them into the transport, settle each outcome at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

from mailserv.clock import Clock
from mailserv.errors import PluginError, StoreError
from mailserv.mail.delivery import Attempt, Delivery, Transport
from mailserv.mail.outcome import Deferred, Outcome
from mailserv.mail.reply import Reply
from mailserv.queue.lanes import Lane, Lanes, Turn
from mailserv.queue.leases import Leases
from mailserv.queue.ledger import Ledger
from mailserv.store.interface import Store

CLAIM_ROWS = 50  # of one claim: as many recipients as one SMTP transaction takes (docs/decisions/0013)
SYNC_EACH = 16  # every so many attempts the settlement is waited for: a store that has failed is noticed, so that
# a full disk costs few messages a second delivery
LONGEST_PAUSE = 60.0  # seconds; then a dead destination is probed again, if mail is due there
SLOW = 60.0  # seconds for one delivery, on average: such a destination gets one connection
STUMBLES = 2  # turns in a row that ended early, without progress and without a reason: the destination is dead

TOOK_NOTHING = Deferred(Reply(451, "4.3.0", "The transport takes no mail for now"))
BROKE = Deferred(Reply(451, "4.3.0", "Local error in delivery; it will be tried again"))
UNFIT = Deferred(Reply(451, "4.3.0", "A plugin could not make what is to be sent; it will be tried again"))
CLOSING = 421  # RFC 5321 §3.8: the server ends the session, whatever was asked
HOST_STATUS = ("4.4.1", "4.4.3", "4.4.4")  # RFC 3463 §3.5: no answer from host, directory failure, unable to route


@dataclass(frozen=True, slots=True)
class Desk:
    """What every batch works with. All of it may be used from any thread."""

    store: Store
    lanes: Lanes
    leases: Leases
    ledger: Ledger
    clock: Clock
    transport: Callable[[str], Transport]
    prepare: Callable[[Delivery], Delivery | None] = lambda delivery: delivery
    """What the transport gets for a delivery; None: it cannot be made now, the delivery is deferred."""


class Batch:
    """A lease, one call of the destination's transport, and what is done with the rest. One thread.

    `run` raises StoreError when the store failed, and whatever a transport that breaks its promise raises; then `broke`
    (or `let_go`) puts the rows where they belong. `close` always comes last.
    """

    def __init__(self, desk: Desk, lane: Lane) -> None:
        self._desk = desk
        self._lane = lane
        self._owner = desk.leases.open()
        self._pending: deque[Delivery] = deque()  # claimed, not yet taken by the transport
        self._in_hand: list[Delivery] = []  # taken, no outcome yet
        self._changed: list[tuple[Delivery, Delivery]] = []  # what was given to the transport, and what was claimed
        self._unfit: list[Delivery] = []  # plugins failed to make what the transport would get
        self._settling: Sequence[Attempt] = ()  # while the ledger works on them
        self._claimed = 0
        self._attempts = 0
        self._progress = 0  # attempts that were not deferred as a whole
        self._last: Outcome | None = None  # of the last attempt, when it was deferred as a whole
        self._trouble: Outcome | None = None  # it speaks for the whole destination
        self._wants_more = False  # the transport asked for one more delivery than it got
        self._store_error: StoreError | None = None

    def run(self) -> Turn:
        """Do it all; what it taught."""
        if not self._claim():
            return Turn.QUIET
        started = self._desk.clock.monotonic()
        transport = self._desk.transport(self._lane.route.transport)
        while self._converse(transport) and self._pending and self._desk.lanes.may_go_on(self._lane):
            pass  # it has used one connection long enough: the next, while nobody else waits
        slow = self._desk.clock.monotonic() - started > SLOW * max(self._attempts, 1)
        return self._conclude(slow)

    def broke(self) -> Turn:
        """An exception that nobody expected ended `run`. Its rows wait for their next time; the others may go on."""
        ledger = self._desk.ledger
        if self._settling:
            self._due_again(ledger.rescue(self._owner, self._settling))
            settled = [attempt.delivery for attempt in self._settling]
            self._in_hand = [d for d in self._in_hand if not any(d is s for s in settled)]
            self._pending = deque(d for d in self._pending if not any(d is s for s in settled))
        self._settle_unfit()
        if self._in_hand:
            self._settle([_all(d, BROKE) for d in self._in_hand], wait=True)
            self._in_hand.clear()
        return self._stumble(BROKE)

    def let_go(self) -> None:
        """The store failed; try once more to give back what was never tried. Leases bring back the rest."""
        self._give_back(self._desk.clock.now())

    @property
    def in_hand(self) -> list[str]:
        """Queue ids that the transport has taken and not answered."""
        return [delivery.queue_id for delivery in self._in_hand]

    def close(self) -> None:
        """The lease is renewed no more."""
        self._desk.leases.close(self._owner)

    # the conversation with the transport

    def _converse(self, transport: Transport) -> bool:
        """One call, to its end. Whether another may follow: messages were done with, and nothing is wrong."""
        before = self._progress
        attempts = self._deliver(transport)
        try:
            for attempt in attempts:
                self._answer(attempt)
        finally:
            attempts.close()  # a generator gives its connection back now, not when collected
        if self._store_error is not None:
            raise self._store_error
        self._settle_unfit()
        if self._in_hand:
            raise PluginError(self._lane.route.transport, "deliver", "it took a delivery and gave no outcome")
        if self._last is not None and not self._wants_more and speaks_for_host(self._last.reply):
            self._trouble = self._last  # it took no more after that
        return self._progress > before and self._last is None and self._trouble is None

    def _deliver(self, transport: Transport) -> Generator[Attempt, None, None]:
        """A StoreError of the transport's own is its failure and counts as an attempt: content that a disk cannot read is
        given up one day. One that comes of settling what it said, or of claiming, is the store's."""
        try:
            yield from transport.deliver(self._feed())
        except StoreError as error:
            raise PluginError(self._lane.route.transport, "deliver", f"the store failed it: {error}") from error

    def _feed(self) -> Iterator[Delivery]:
        """What the transport takes from. Never raises into the transport's code."""
        while not self._trouble and not self._desk.lanes.is_stopping:
            if not self._pending and not self._claim_more():
                break
            delivery = self._pending.popleft()
            sent = self._desk.prepare(delivery)
            if sent is None:
                self._unfit.append(delivery)
                continue
            self._in_hand.append(delivery)
            if sent is not delivery:
                self._changed.append((sent, delivery))
            yield sent
        self._wants_more = True

    def _claim_more(self) -> bool:
        """While the connection is warm, more of the same; but others come first when they wait."""
        if not self._desk.lanes.may_go_on(self._lane):
            return False
        if self._lane.troubled and self._progress and self._claimed >= CLAIM_ROWS:
            return False  # it has recovered: this turn ends, so that what waits gets more connections than one
        try:
            return self._claim()
        except StoreError as error:
            self._store_error = error
            return False

    def _claim(self, due: float | None = None) -> bool:
        """What is due at that time; None: now."""
        lanes, at = self._desk.lanes, self._desk.clock.now() if due is None else due
        news = lanes.news(self._lane)
        found, next_due = self._desk.store.claim(
            self._lane.route, self._owner, at, self._desk.leases.until(), CLAIM_ROWS
        )
        lanes.claimed(self._lane, news, next_due)
        self._pending.extend(found)
        self._claimed += sum(len(delivery.rows) for delivery in found)
        return bool(found)

    def _answer(self, attempt: Attempt) -> None:
        """Settle one attempt; learn from it."""
        claimed = next((claimed for sent, claimed in self._changed if sent is attempt.delivery), None)
        if claimed is not None:  # rows, trace and bounces are about what the queue holds
            attempt = Attempt(claimed, attempt.outcomes)
            self._changed = [pair for pair in self._changed if pair[1] is not claimed]
        self._check(attempt)
        self._attempts += 1
        self._settle([attempt], wait=self._attempts % SYNC_EACH == 0)
        self._in_hand = [d for d in self._in_hand if d is not attempt.delivery]
        first = attempt.outcomes[0]
        if not all(isinstance(outcome, Deferred) for outcome in attempt.outcomes):
            self._progress += 1
            self._last = None
            return
        self._last = first
        if first.reply.code == CLOSING:
            self._trouble = first

    def _check(self, attempt: Attempt) -> None:
        name = self._lane.route.transport
        if not any(attempt.delivery is delivery for delivery in self._in_hand):
            raise PluginError(name, "deliver", "an outcome for a delivery that it does not have")
        if len(attempt.outcomes) != len(attempt.delivery.rows):
            raise PluginError(name, "deliver", "not one outcome for each recipient")
        if not all(map(_is_outcome, attempt.outcomes)):
            raise PluginError(name, "deliver", "an outcome that is none")

    # what is done with the rest

    def _conclude(self, slow: bool) -> Turn:
        if self._trouble is not None:
            return self._rest_after(self._trouble)
        if self._desk.lanes.is_stopping:
            self._give_back(self._desk.clock.now())
            return Turn.QUIET
        if not self._attempts:
            return self._dead(TOOK_NOTHING)
        if self._pending and self._last is not None:
            return self._stumble(self._last)
        self._give_back(self._desk.clock.now())  # it has used its connection long enough: another turn soon
        if slow:
            return Turn.TROUBLED
        if not self._progress:
            return Turn.QUIET
        return Turn.FULL if self._claimed >= CLAIM_ROWS else Turn.GOOD

    def _stumble(self, outcome: Outcome) -> Turn:
        """It ended early, and perhaps only because of one message: the others get a turn of their own, once."""
        if self._lane.stumbles + 1 >= STUMBLES and not self._progress:
            return self._dead(outcome)
        self._give_back(self._desk.clock.now())
        return Turn.STUMBLED

    def _rest_after(self, trouble: Outcome) -> Turn:
        """421 or worse. When mail had gone out before, what is left was only unlucky: it waits, untouched."""
        if not self._progress:
            return self._dead(trouble)
        self._give_back(self._pause())
        return Turn.TROUBLED

    def _dead(self, outcome: Outcome) -> Turn:
        """No connection: every row that is due shares the attempt and its reply, so that each has its own schedule and
        its own time to give up, and none is tried in turn against a dead host. Not what falls due meanwhile: with short
        waits that would go on for ever."""
        due = self._desk.clock.now()
        self._pause()
        while True:
            if self._pending:
                self._settle([_all(delivery, outcome) for delivery in self._pending], wait=True)
                self._pending.clear()
            if self._desk.lanes.is_stopping or not self._claim(due):
                return Turn.TROUBLED

    def _pause(self) -> float:
        """Nobody tries this destination until its first row is due again, nearly."""
        retry = self._desk.ledger.settings.retry
        until = self._desk.clock.now() + min(retry[0] * 0.9, LONGEST_PAUSE)  # 0.9: no later than jitter may bring it
        self._desk.lanes.pause(self._lane, until)
        return until

    def _give_back(self, not_before: float) -> None:
        if self._pending:
            self._desk.ledger.give_back(self._owner, self._pending, not_before)
            self._pending.clear()
            self._due_again(not_before)

    def _settle_unfit(self) -> None:
        """They wait for their next time; `_attempts` counts them, so that the destination is not taken for dead."""
        if self._unfit:
            self._attempts += len(self._unfit)
            self._settle([_all(delivery, UNFIT) for delivery in self._unfit], wait=True)
            self._unfit.clear()

    def _settle(self, attempts: Sequence[Attempt], *, wait: bool) -> None:
        self._settling = attempts
        due = self._desk.ledger.settle(self._owner, attempts, wait=wait)
        self._settling = ()
        self._due_again(due)

    def _due_again(self, at: float | None) -> None:
        if at is not None:
            self._desk.lanes.due_again(self._lane, at)


def speaks_for_host(reply: Reply) -> bool:
    """Whether a transient failure holds for every message to this destination now: 421, no connection, no DNS.

    A server may say 4.4.1 of one recipient, too, for which it has no connection of its own. So these words count only
    where the transport has taken no more after them.
    """
    return reply.code == CLOSING or reply.enhanced in HOST_STATUS


def _is_outcome(given: object) -> bool:
    """What is none would break the settling of its row, and each repair of that: nobody would ever give it up."""
    if not isinstance(given, Outcome) or not isinstance(given.reply, Reply):
        return False
    reply = given.reply
    is_reply = isinstance(reply.code, int) and isinstance(reply.enhanced, str) and isinstance(reply.text, str)
    return is_reply and isinstance(given.remote, str)


def _all(delivery: Delivery, outcome: Outcome) -> Attempt:
    return Attempt(delivery, (outcome,) * len(delivery.rows))
