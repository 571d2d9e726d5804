"""When to try again, by the recipient's domain, and later or sooner where the host only greylists (RFC 5321 §4.5.4.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.domain_table import DomainTable
from mailserv.mail.outcome import Outcome
from mailserv.mail.plugin import Services, reading
from mailserv.mail.values import Duration

LEAST = 10.0  # seconds: a host that is asked more often than that sees an attack
MOST = 30 * 86_400.0  # seconds: the queue waits no longer, whatever it is told
GREYLISTED = re.compile(r"gr[ae]y-?list", re.IGNORECASE)  # it has no code of its own (RFC 6647 §5)
SOON_ATTEMPTS = 3  # a host that still says so means something else


class RetrySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    domains: Annotated[
        dict[str, tuple[Duration, ...]],
        msgspec.Meta(description='recipient\'s domain, ".example" for each below it: waits as in `[queue] retry`'),
    ] = msgspec.field(default_factory=dict)
    greylisted: Annotated[
        Duration,
        msgspec.Meta(description="wait after a reply that speaks of greylisting, three times; 0s: as any other"),
    ] = Duration(360)


class Plugin:
    Settings = RetrySettings

    def __init__(self, settings: RetrySettings, services: Services) -> None:
        self._settings = settings
        with reading(services, "domains"):
            self._domains = DomainTable(settings.domains)

    @hookimpl
    def check_config(self) -> Iterable[str]:
        for domain, waits in self._settings.domains.items():
            if not waits:
                yield f'domains."{domain}": has to have at least one wait'
            if any(wait < LEAST for wait in waits):
                yield f'domains."{domain}": a wait has to be at least {LEAST:g}s'
            if any(wait > MOST for wait in waits):
                yield f'domains."{domain}": a wait has to be at most 30d'
        if 0 < self._settings.greylisted < LEAST:
            yield f"greylisted: has to be at least {LEAST:g}s, or 0s"
        if self._settings.greylisted > MOST:
            yield "greylisted: has to be at most 30d"

    @hookimpl
    def retry_delay(self, delivery: Delivery, row: QueuedRow, outcome: Outcome, delay: float) -> float | None:
        greylisted = self._settings.greylisted
        if greylisted and row.attempts < SOON_ATTEMPTS and GREYLISTED.search(outcome.reply.text):
            return greylisted
        waits = self._domains.find(row.forward_path.domain)
        return None if waits is None else waits[min(row.attempts, len(waits) - 1)]
