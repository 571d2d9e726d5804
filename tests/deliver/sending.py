"""What the tests of this room share: deliveries, a transport with short waits, servers on loopback addresses."""

from __future__ import annotations

import random

from mailserv.clock import SystemClock
from mailserv.deliver.connections import Timeouts
from mailserv.deliver.transports import SmtpTransport
from mailserv.mail.address import NULL_REVERSE_PATH, Address, parse_mailbox
from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.message import BytesContent
from mailserv.mail.route import Route
from mailserv.mail.value import replace
from mailserv.resolver import Resolver
from mailserv.testing.sink import ScriptedMX

CONTENT = b"From: alice@example.org\r\nSubject: hello\r\n\r\nHello.\r\n"

# Nobody waits for longer than this for a server of these tests that answers at all.
PATIENT = Timeouts(*[10.0] * 12, quit=1.0)


def impatient(**steps: float) -> Timeouts:
    """A short wait for one step, which the server of the test lets pass."""
    return replace(PATIENT, **steps)


def hop(mx: ScriptedMX) -> str:
    """The next hop that leads to a server without any MX lookup."""
    return f"[{mx.host}]:{mx.port}"


def delivery(
    next_hop: str,
    *recipients: str,
    queue_id: str = "Q1",
    reverse_path: str = "alice@example.org",
    content: object = CONTENT,
    parameters: dict[str, str] | None = None,
    rcpt_parameters: dict[str, str] | None = None,
) -> Delivery:
    rows = []
    for number, text in enumerate(recipients or ("bob@example.net",)):
        address = parse_mailbox(text)
        rows.append(QueuedRow(number, address, address, rcpt_parameters or {}, 0, False))
    return Delivery(
        queue_id=queue_id,
        reverse_path=parse_mailbox(reverse_path) if reverse_path else NULL_REVERSE_PATH,
        parameters=parameters or {},
        content=BytesContent(content) if isinstance(content, bytes) else content,
        received_at=0.0,
        login="",
        route=Route("smtp", next_hop),
        rows=tuple(rows),
    )


def row(address: Address) -> QueuedRow:
    return QueuedRow(0, address, address, {}, 0, False)


def numbered(next_hop: str, count: int, **options) -> list[Delivery]:
    """Messages Q0, Q1, … each to a recipient of its own."""
    return [delivery(next_hop, f"user{n}@example.net", queue_id=f"Q{n}", **options) for n in range(count)]


def make_transport(nameserver: str = "127.0.0.1:1", **options) -> SmtpTransport:
    """A transport with patient timeouts; without a zone it can reach "[host]:port" only."""
    clock = options.pop("clock", None) or SystemClock()
    options.setdefault("timeouts", PATIENT)
    resolver = Resolver([nameserver], timeout=5.0, clock=clock)
    return SmtpTransport("me.example.org", resolver, clock, random.Random(7), **options)


class Taking:
    """An iterable that knows how many were taken from it."""

    def __init__(self, deliveries: list[Delivery]) -> None:
        self._left = iter(deliveries)
        self.taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self._left)
        self.taken += 1
        return item


def outcomes(attempts) -> list[tuple[str, str, int]]:
    """(queue id, kind, code) of each row, in order."""
    return [(a.delivery.queue_id, type(o).__name__, o.reply.code) for a in attempts for o in a.outcomes]
