"""What the queue hands to a transport, and what a transport is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from mailserv.mail.address import Address
from mailserv.mail.message import Content
from mailserv.mail.outcome import Outcome
from mailserv.mail.route import Route
from mailserv.mail.value import Value


class QueuedRow(Value, frozen=True):
    """One recipient row under a lease. `row_id` is never reused; `attempts` counts the ones that ended before this."""

    row_id: int
    forward_path: Address
    original: Address
    parameters: Mapping[str, str]
    attempts: int
    delay_notified: bool


class Delivery(Value, frozen=True):
    """One message with those of its recipients that share a destination: one SMTP transaction.

    `parameters` are MAIL's, `login` is who submitted it ("" if none); `peer_ip` the client that it came from, "" for what was
    made here.
    """

    queue_id: str
    reverse_path: Address
    parameters: Mapping[str, str]
    content: Content
    received_at: float
    login: str
    route: Route
    rows: tuple[QueuedRow, ...]
    peer_ip: str = ""

    @property
    def is_smtputf8(self) -> bool:
        """RFC 6531 §3.4: it came by an internationalised transaction."""
        return "SMTPUTF8" in self.parameters


class Attempt(Value, frozen=True):
    """What became of one delivery: an outcome for each row, in the order of `delivery.rows`."""

    delivery: Delivery
    outcomes: tuple[Outcome, ...]


class Transport(Protocol):
    """A way out: "smtp", or what a plugin registers under a name of its own."""

    def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
        """Try deliveries that share one destination, one after the other, and yield what became of each at once.

        Runs on a queue worker's thread, which may be one of several. Yields exactly one Attempt for each Delivery that
        it takes from the iterable; may stop taking (the host is gone): what it did not take goes back to the queue
        untouched. Never raises for what a peer or the network does: that is a Deferred or a Failed.
        """
        ...

    def close(self) -> None:
        """Give back what is kept between calls (idle connections). Called once, when the workers have ended."""
        ...
