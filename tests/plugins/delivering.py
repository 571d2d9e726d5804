"""What the tests of transports share: a plugin made as the server makes it, and deliveries for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mailserv.clock import Clock
from mailserv.hooks.host import load_plugins
from mailserv.mail.address import NULL_REVERSE_PATH, parse_mailbox
from mailserv.mail.delivery import Delivery, QueuedRow, Transport
from mailserv.mail.message import BytesContent, Content
from mailserv.mail.outcome import Outcome
from mailserv.mail.route import Route
from mailserv.mail.value import replace
from mailserv.testing.clock import FakeClock

CONTENT = b"From: alice@example.org\r\nSubject: hello\r\n\r\nHello.\r\n.\r\n"


def make_transport(name: str, settings: Mapping[str, Any], clock: Clock | None = None) -> Transport:
    """The transport `name` of the plugin `name`. Raises ConfigError as the server's start would."""
    plugins = load_plugins((name,), (), None, {name: settings}, hostname="mail.example.org", clock=clock or FakeClock())
    return plugins.transports[name]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Content in the blocks that a test wants."""

    parts: tuple[bytes, ...]
    size: int = field(default=0)

    def blocks(self) -> Any:
        yield from self.parts


def make_delivery(
    route: str,
    *recipients: str,
    content: Content | bytes = CONTENT,
    reverse_path: str = "alice@example.org",
    parameters: Mapping[str, str] | None = None,
    queue_id: str = "06B2K7XG1Q4S0M3F",
    received_at: float = 1_767_225_600.0,
    attempts: int = 0,
) -> Delivery:
    """`route` as it stands in `[routes]`."""
    transport, _, next_hop = route.partition(":")
    paths = [parse_mailbox(text) for text in recipients or ("bob@example.net",)]
    return Delivery(
        queue_id=queue_id,
        reverse_path=parse_mailbox(reverse_path) if reverse_path else NULL_REVERSE_PATH,
        parameters=parameters or {},
        content=BytesContent(content) if isinstance(content, bytes) else content,
        received_at=received_at,
        login="",
        route=Route(transport, next_hop),
        rows=tuple(QueuedRow(number, path, path, {}, attempts, False) for number, path in enumerate(paths)),
    )


def tried_before(delivery: Delivery) -> Delivery:
    """The same after an attempt."""
    return replace(delivery, rows=tuple(replace(row, attempts=row.attempts + 1) for row in delivery.rows))


def outcomes(transport: Transport, *deliveries: Delivery) -> list[Outcome]:
    """Of every recipient, in order."""
    return [outcome for attempt in transport.deliver(deliveries) for outcome in attempt.outcomes]
