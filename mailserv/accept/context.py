"""What every SMTP session works with: values and rooms below, gathered once and swapped whole by a reload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mailserv.bounce.policy import Bouncer
from mailserv.clock import Clock
from mailserv.filter.checks import Checks
from mailserv.filter.logins import Logins
from mailserv.mail.queue_id import QueueIds
from mailserv.mailboxes.quotas import Quotas
from mailserv.net.tls import Certificates
from mailserv.protocol.extensions import ExtensionTable
from mailserv.route.router import Router
from mailserv.settings import Settings
from mailserv.store.interface import Store


@dataclass(frozen=True, slots=True)
class Context:
    """Frozen: a session keeps the one it started with.

    `start_queue(domain, subdomains)` makes what waits there due now, and counts the messages.
    """

    settings: Settings
    clock: Clock
    store: Store
    router: Router
    quotas: Quotas
    checks: Checks
    bouncer: Bouncer
    extensions: ExtensionTable
    queue_ids: QueueIds
    logins: Logins
    certificates: Certificates | None
    start_queue: Callable[[str, bool], int]
    is_stressed: Callable[[], bool]
    allows_plaintext: Callable[[str], bool]
