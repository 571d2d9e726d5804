"""What the queue's tests share: a real store, a clock that stands still, a transport that follows a script."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mailserv.mail.address import NULL_REVERSE_PATH, Address
from mailserv.mail.delivery import Attempt, Delivery, QueuedRow, Transport
from mailserv.mail.message import Acceptance, BytesContent, MailboxDelivery, QueuedRecipient
from mailserv.mail.outcome import Deferred, Delivered, Failed, Outcome
from mailserv.mail.reply import Reply
from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.queue.batch import Batch, Desk
from mailserv.queue.lanes import Lanes, Turn
from mailserv.queue.leases import Leases
from mailserv.queue.ledger import Ledger
from mailserv.settings import Queue
from mailserv.store.interface import Store
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock

BOB = Address("bob", "example.org")
NET = Route("smtp", "example.net")
DELIVERED = Delivered(Reply(250, "2.0.0", "Ok"), "mx.example.net [192.0.2.1]:25")
GREYLISTED = Deferred(Reply(451, "4.7.1", "Greylisted"), "mx.example.net [192.0.2.1]:25")
UNREACHABLE = Deferred(Reply(451, "4.4.1", "No answer"), "")
DROPPED_421 = Deferred(Reply(421, "4.3.2", "Closing"), "mx.example.net [192.0.2.1]:25")
REFUSED = Failed(Reply(550, "5.1.1", "No such user"), "mx.example.net [192.0.2.1]:25")

Answer = Callable[[Delivery], Sequence[Outcome] | Outcome]


class Script:
    """A transport that answers each delivery as `answer` says, and remembers. `at_most`: takes so many, then stops.

    It stops at UNREACHABLE, too: the host is gone.
    """

    def __init__(self, answer: Answer = lambda _: DELIVERED, at_most: int = 1_000_000) -> None:
        self.answer = answer
        self.at_most = at_most
        self.calls = 0
        self.seen: list[str] = []
        self.closed = 0
        self.lock = threading.Lock()

    def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
        with self.lock:
            self.calls += 1
        if not self.at_most:
            return
        for taken, delivery in enumerate(deliveries, 1):
            with self.lock:
                self.seen.append(delivery.queue_id)
            found = self.answer(delivery)
            yield Attempt(delivery, tuple(found) if isinstance(found, Sequence) else (found,) * len(delivery.rows))
            if taken >= self.at_most or found is UNREACHABLE:
                return

    def close(self) -> None:
        self.closed += 1


class Bouncing:
    """A bouncer that makes one message from <> to alice for each call, and remembers what it was asked."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, list[str]]] = []
        self.delays: list[tuple[str, list[str], float]] = []
        self.successes: list[tuple[str, list[str]]] = []
        self.error: Exception | None = None

    def failed(
        self, delivery: Delivery, rows: Sequence[tuple[QueuedRow, Outcome]], now: float, trace: list[TraceEntry]
    ) -> tuple[Acceptance, ...]:
        self.failures.append((delivery.queue_id, [str(row.forward_path) for row, _ in rows]))
        return self._made(f"B{delivery.queue_id}", now) if not delivery.reverse_path.is_null else ()

    def delayed(
        self,
        delivery: Delivery,
        rows: Sequence[tuple[QueuedRow, Outcome]],
        now: float,
        give_up_at: float,
        trace: list[TraceEntry],
    ) -> tuple[Acceptance, ...]:
        self.delays.append((delivery.queue_id, [str(row.forward_path) for row, _ in rows], give_up_at))
        return self._made(f"L{delivery.queue_id}", now)

    def succeeded(
        self, delivery: Delivery, rows: Sequence[tuple[QueuedRow, Outcome]], now: float, trace: list[TraceEntry]
    ) -> tuple[Acceptance, ...]:
        self.successes.append((delivery.queue_id, [str(row.forward_path) for row, _ in rows]))
        return self._made(f"S{delivery.queue_id}", now)

    def _made(self, queue_id: str, now: float) -> tuple[Acceptance, ...]:
        if self.error is not None:
            raise self.error
        mailbox = MailboxDelivery("alice@example.org", "alice@example.org", b"")
        content = BytesContent(b"Subject: sorry\r\n\r\n")
        return (Acceptance(queue_id, NULL_REVERSE_PATH, content, now, mailboxes=(mailbox,)),)


class World:
    """Everything a batch needs, over a store in `path`. `settings` may be changed before a batch."""

    def __init__(self, path: Path, settings: Queue | None = None) -> None:
        self.clock = FakeClock()
        self.store: Store = open_store(path, self.clock)
        self.store.add_account("alice@example.org", "!", self.clock.now())
        self.settings = settings or Queue()
        self.bouncer = Bouncing()
        self.transports: dict[str, Transport] = {}
        self.lanes = Lanes(self.clock, workers=self.settings.workers, connections=2)
        self.leases = Leases(self.store, self.clock, "node", self.lanes.kick)
        self.rng = random.Random(1)
        self.ledger = Ledger(self.store, self.bouncer, self.clock, self.rng, self.settings)

    def desk(self, transport: Transport, store: Store | None = None) -> Desk:
        store = store or self.store
        ledger = Ledger(store, self.bouncer, self.clock, self.rng, self.settings)
        return Desk(store, self.lanes, self.leases, ledger, self.clock, lambda _: transport)

    def queue(self, queue_id: str, *recipients: str, reverse_path: Address = BOB) -> None:
        """Accept one message for these (default: one@example.net), each routed by its domain."""
        paths = [Address(*r.split("@")) for r in recipients or ("one@example.net",)]
        queued = tuple(QueuedRecipient(p, p, Route("smtp", p.domain)) for p in paths)
        content = BytesContent(b"Subject: hello\r\n\r\nHello.\r\n")
        self.store.accept(Acceptance(queue_id, reverse_path, content, self.clock.now(), queued=queued))

    def work(self, transport: Transport, route: Route = NET, store: Store | None = None) -> Turn:
        """One turn with a destination, as a worker takes it, on this thread. Raises what the batch raises."""
        self.lanes.load([(route, self.clock.now())], end_pauses=True)
        lane = self.lanes.take()
        assert lane is not None
        assert lane.route == route
        turn = Turn.QUIET
        batch = Batch(self.desk(transport, store), lane)
        try:
            turn = batch.run()
        finally:
            batch.close()
            self.lanes.release(lane, turn)
        return turn

    def states(self) -> dict[str, str]:
        """queue id → state, of what is in the queue; several recipients of one message must agree."""
        self.store.settle("nobody", [])  # waits for what was handed over before it
        found: dict[str, str] = {}
        for entry in self.store.queue_list():
            assert found.setdefault(entry.queue_id, entry.state) == entry.state
        return found

    def events(self, queue_id: str) -> list[str]:
        return [entry.event for entry in self.store.trace(queue_id)]

    def bounces(self) -> int:
        return len(self.store.maildrop("alice@example.org"))
