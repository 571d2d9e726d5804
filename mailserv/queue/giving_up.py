"""An operator gives a message up: its recipients fail now, and whoever sent it is told why."""

from __future__ import annotations

from mailserv.clock import Clock
from mailserv.mail.fields import printable
from mailserv.mail.outcome import Failed
from mailserv.mail.reply import Reply
from mailserv.mail.trace import TraceEntry
from mailserv.queue.ledger import Bouncer
from mailserv.store.interface import Store

UNDEFINED = "5.0.0"  # RFC 3463 §3.1: a person decided, and nothing is known of address, host or content
FAILURE = 554  # RFC 5321 §4.2.3: the transaction failed


def give_up(store: Store, bouncer: Bouncer, clock: Clock, queue_id: str, reason: str) -> int:
    """End every row of a message that nobody is delivering; how many there were.

    The null reverse-path is not answered (invariant 3), nor is the postmaster told, whose order it was. Raises
    StoreError; PluginError when a plugin could not say what to tell: nothing is done then.
    """
    outcome = Failed(Reply(FAILURE, UNDEFINED, reason))
    while (delivery := store.queue_open(queue_id)) is not None:
        now = clock.now()
        detail = {"reply": printable(str(outcome.reply)), "given_up": "operator"}
        trace = [TraceEntry(now, "failed", str(row.forward_path), detail) for row in delivery.rows]
        failed = [(row, outcome) for row in delivery.rows]
        notices = () if delivery.reverse_path.is_null else bouncer.failed(delivery, failed, now, trace)
        trace += [TraceEntry(now, "bounced", "", {"queue_id": made.queue_id}) for made in notices]
        if store.queue_give_up(delivery.rows, notices, [(queue_id, entry) for entry in trace]):
            return len(delivery.rows)
    return 0
