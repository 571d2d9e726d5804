"""Much mail at once: put in through the store, not by SMTP, by `python -m bench.filling DATA KIND COUNT`.

A process of its own, while no server runs there; a message costs a fraction of what it costs by SMTP. Each is what the same
message would be that came by SMTP: its content with a Received, its trace, its rows. They differ in queue id and recipient,
as real ones do.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from enum import StrEnum
from pathlib import Path

from bench.errors import Failed
from bench.load import OCTETS, ROOT
from bench.server import DATA, MAILBOX, Wanted
from bench.smtp_client import message
from mailserv.clock import SystemClock
from mailserv.mail.address import Address, parse_mailbox
from mailserv.mail.fields import received_here, return_path_prefix
from mailserv.mail.message import Acceptance, BytesContent, MailboxDelivery, QueuedRecipient
from mailserv.mail.queue_id import QueueIds
from mailserv.mail.queue_state import State
from mailserv.mail.reply import Reply
from mailserv.mail.route import SMTP, Route
from mailserv.mail.trace import TraceEntry
from mailserv.store.interface import Settlement, Store
from mailserv.store.sqlite import open_store

GROUP = 200  # messages in one transaction: about as many octets as the writer takes at once
CLAIM = 1000  # rows
DOMAINS = 1000
FILL_SECONDS = 1200.0
HOUR = 3600.0
HOSTNAME = "mail.example.org"
REVERSE_PATH = Address("source", "example.net")
ROUTE = Route(SMTP, f"[127.0.0.1]:{Wanted().next_hop}")
REFUSED = Reply(451, "4.4.1", "connect: Connection refused")


class Kind(StrEnum):
    """What becomes of the messages."""

    WAITING = "waiting"
    """Queued and tried once: due again in one to two hours."""
    DUE = "due"
    """Queued and not yet tried."""
    KEPT = "kept"
    """In MAILBOX."""


def fill_with(kind: Kind, count: int, folder: Path) -> None:
    """Put so many more into the server that was started in `folder` and has ended. Failed when it cannot be done."""
    data = folder / DATA
    if not data.is_dir():
        raise Failed("only mailserv can be filled without SMTP")
    command = [sys.executable, "-m", "bench.filling", str(data), kind, str(count)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=FILL_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{count} messages were not stored within {FILL_SECONDS:.0f} s") from None
    if done.returncode:
        raise Failed(f"the store could not be filled: {done.stderr.strip()[-200:]}")


class Filler:
    """Makes messages, and has the store accept them. One thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clock = SystemClock()
        self._rng = random.Random()
        self._queue_ids = QueueIds(self._rng)
        self._body = message(OCTETS).removesuffix(b".\r\n")

    def keep(self, count: int) -> None:
        self._accept(count, self._kept)

    def queue(self, count: int) -> None:
        self._accept(count, self._queued)

    def queue_waiting(self, count: int) -> None:
        for start in range(0, count, CLAIM):
            self.queue(min(CLAIM, count - start))
            self._defer()

    def _accept(self, count: int, make: Callable[[int], Acceptance]) -> None:
        """In groups: what `Store.accept` takes beside a message is committed together with it."""
        for start in range(0, count, GROUP):
            first, *others = [make(number) for number in range(start, min(start + GROUP, count))]
            self._store.accept(first, others)

    def _defer(self) -> None:
        """What the queue does when the next hop refuses the connection."""
        now = self._clock.now()
        deliveries, _ = self._store.claim(ROUTE, "filling", now, now + HOUR, CLAIM)
        settlements = [
            Settlement(row, State.READY, now + HOUR * self._rng.uniform(1, 2), REFUSED)
            for delivery in deliveries
            for row in delivery.rows
        ]
        detail = {"reply": str(REFUSED)}
        trace = [
            (delivery.queue_id, TraceEntry(now, "deferred", str(row.forward_path), detail))
            for delivery in deliveries
            for row in delivery.rows
        ]
        self._store.settle("filling", settlements, trace=trace)

    def _queued(self, number: int) -> Acceptance:
        to = Address(f"user{number}", f"d{number % DOMAINS}.example.net")
        return self._made(to, f"{to} via {ROUTE}", queued=(QueuedRecipient(to, to, ROUTE),))

    def _kept(self, _: int) -> Acceptance:
        to = parse_mailbox(MAILBOX)
        copy = MailboxDelivery(to.key, str(to), return_path_prefix(REVERSE_PATH, to))
        return self._made(to, f"mailbox:{to.key}", mailboxes=(copy,))

    def _made(
        self,
        to: Address,
        where: str,
        mailboxes: Sequence[MailboxDelivery] = (),
        queued: Sequence[QueuedRecipient] = (),
    ) -> Acceptance:
        now = self._clock.now()
        queue_id = self._queue_ids.make(now)
        content = BytesContent(received_here(HOSTNAME, queue_id, now) + self._body)
        about: dict[str, str | int | float] = {
            "ip": "127.0.0.1",
            "service": "smtp",
            "size": content.size,
            "reverse_path": str(REVERSE_PATH),
        }
        trace = (TraceEntry(now, "accepted", detail=about), TraceEntry(now, "routed", str(to), {"to": where}))
        return Acceptance(
            queue_id=queue_id,
            reverse_path=REVERSE_PATH,
            content=content,
            received_at=now,
            peer_ip="127.0.0.1",
            mailboxes=tuple(mailboxes),
            queued=tuple(queued),
            trace=trace,
        )


def main() -> None:
    data, kind, count = sys.argv[1:]
    with closing(open_store(Path(data), SystemClock())) as store:
        filler = Filler(store)
        work = {Kind.WAITING: filler.queue_waiting, Kind.DUE: filler.queue, Kind.KEPT: filler.keep}
        work[Kind(kind)](int(count))


if __name__ == "__main__":
    main()
