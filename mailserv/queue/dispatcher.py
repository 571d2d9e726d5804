"""The queue's heart: starts and stops the workers, wakes them when a retry falls due, keeps leases and trace in order."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterable, Iterator, Mapping

from mailserv import metrics
from mailserv.clock import DAY, Clock
from mailserv.errors import StoreError
from mailserv.logging import get_logger
from mailserv.mail.delivery import Attempt, Delivery, Transport
from mailserv.mail.outcome import Deferred
from mailserv.mail.queue_state import State
from mailserv.mail.reply import Reply
from mailserv.queue.asking import QueueHooks
from mailserv.queue.batch import Desk
from mailserv.queue.lanes import Lanes
from mailserv.queue.leases import Leases
from mailserv.queue.ledger import Bouncer, Ledger
from mailserv.queue.workers import Workers
from mailserv.settings import Queue
from mailserv.store.interface import Store

_log = get_logger("queue")

FIRST_EXPIRY = 3600.0  # seconds after the start: not while everything else starts
REST = 60.0  # seconds until a chore that failed is tried again
STEP = 60.0  # seconds that the machine's date may be set back unnoticed: all that waits then waits so long more


class Unavailable:
    """Stands in for a transport that is not registered (any more): its mail waits, and is never lost."""

    def __init__(self, name: str) -> None:
        self._outcome = Deferred(Reply(451, "4.3.5", f"Transport {name} is not available"))

    def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
        """Defer everything."""
        for delivery in deliveries:
            yield Attempt(delivery, (self._outcome,) * len(delivery.rows))

    def close(self) -> None:
        """There is nothing to close."""


class Dispatcher:
    """The outbound queue of one node. `start`, `stop` and `reload` belong to the server's thread; `wake` to any.

    The dispatcher's own thread sleeps until the next retry, lease renewal or daily chore. New mail does not pass through
    it: the store's signal wakes a worker directly.
    """

    def __init__(
        self,
        store: Store,
        transports: Mapping[str, Transport],
        bouncer: Bouncer,
        *,
        clock: Clock,
        settings: Queue,
        node: str,
        rng: random.Random,
        hooks: QueueHooks | None = None,
    ) -> None:
        self._store = store
        self._transports = transports
        self._clock = clock
        self._node = node
        self._ledger = Ledger(store, bouncer, clock, rng, settings, hooks)
        self._lanes = Lanes(clock, workers=settings.workers, connections=settings.connections_per_destination)
        self._leases = Leases(store, clock, node, self._lanes.kick)
        desk = Desk(
            store, self._lanes, self._leases, self._ledger, clock, self._transport, (hooks or QueueHooks()).prepare
        )
        self._workers = Workers(desk, settings.workers)
        self._thread = threading.Thread(target=self._run, name="queue-dispatcher", daemon=True)
        self._look = threading.Event()
        self._expire_at = 0.0
        self._rest_until = 0.0
        self._ahead = clock.now() - clock.monotonic()  # of a clock that is never set
        self._is_set_back = False
        metrics.QUEUE.ask(self.counts)

    def counts(self) -> dict[str, int]:
        """Recipients in each state; nothing when the store has ended, or cannot be asked. Any thread."""
        try:
            return {} if self._lanes.is_stopping else self._store.queue_counts()
        except StoreError:
            return {}

    def start(self) -> None:
        """Take back what a former life of this node had claimed, then deliver. Raises StoreError, RuntimeError (threads)."""
        now = self._clock.now()
        self._expire_at = now + FIRST_EXPIRY
        self._store.on_queued(self._lanes.queued)
        self._store.on_order(self.wake)
        back = self._store.reclaim(self._node, now)
        if back:
            _log.info("queue_reclaimed", rows=back)
        if self._store.queue_counts()[State.CLAIMED]:
            self._leases.found()
        self._bring_forward(now)
        self._lanes.load(self._store.destinations())
        self._workers.start()
        self._thread.start()

    def wake(self) -> None:
        """The queue was changed from outside (an operator's `queue retry`): read from the store what is due, and try it."""
        self._look.set()
        self._lanes.kick()

    def reload(self, settings: Queue) -> None:
        """New waits and limits count from the next outcome on, connections from the next turn; workers need a restart."""
        self._ledger.settings = settings
        self._lanes.reload(settings.connections_per_destination)

    def stop(self, deadline: float) -> None:
        """No new attempts; running ones may end until `deadline` (monotonic seconds). What was not tried is ready again."""
        self._lanes.stop()
        if self._thread.ident is not None:
            self._thread.join(max(deadline - self._clock.monotonic(), 0))
        if not self._workers.join(deadline, self._clock):
            _log.warning("queue_stopped_early", reason="deliveries are still running; they will be repeated")
            return
        with contextlib.ExitStack() as stack:  # one that raises does not keep the others open
            for transport in self._transports.values():
                stack.callback(transport.close)

    def _transport(self, name: str) -> Transport:
        return self._transports.get(name) or Unavailable(name)

    def _run(self) -> None:
        while self._lanes.sleep(self._next_chore()):
            now = self._clock.now()
            self._notice_set_back(now)
            if now < self._rest_until:
                continue
            try:
                self._chores(now)
            except StoreError as error:
                _log.error("queue_chore_failed", error=str(error))
                self._rest_until = now + REST
            except Exception:  # noqa: BLE001 - without this thread no retry would ever fall due again
                _log.exception("queue_dispatcher_broke")
                self._rest_until = now + REST

    def _notice_set_back(self, now: float) -> None:
        """When the machine's date was set back, every time that was set before is too late: nothing would be tried, nor
        looked after, until the date has come again."""
        before, self._ahead = self._ahead, now - self._clock.monotonic()
        if self._ahead < before - STEP:
            self._is_set_back = True
            self._rest_until = 0.0
            self._expire_at = min(self._expire_at, now + DAY)
            self._leases.set_back()
            self._look.set()

    def _bring_forward(self, now: float) -> None:
        messages = self._store.queue_bring_forward(now + self._ledger.longest_wait, now)
        if messages:
            _log.warning("queue_brought_forward", messages=messages)

    def _next_chore(self) -> float:
        leases = self._leases.next_at()
        soonest = self._expire_at if leases is None else min(self._expire_at, leases)
        if self._look.is_set():
            soonest = 0.0
        return max(soonest, self._rest_until)

    def _chores(self, now: float) -> None:
        back = self._leases.work(now)
        if back:
            _log.warning("queue_reclaimed", rows=back)
        if self._is_set_back:
            self._bring_forward(now)
            self._is_set_back = False
        asked = self._look.is_set()
        if asked:
            self._look.clear()
        if back or asked:
            self._lanes.load(self._store.destinations(), end_pauses=asked)
        if now >= self._expire_at:
            if not self._ledger.date.is_in_doubt():
                messages = self._store.expire_trace(now - self._ledger.settings.trace_days * DAY)
                self._store.expire_plugin_values(now)
                _log.info("trace_expired", messages=messages)
            self._expire_at = now + DAY
