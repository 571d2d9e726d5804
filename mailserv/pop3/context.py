"""What every POP3 session works with, and the table that keeps two sessions from one maildrop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from mailserv.clock import Clock
from mailserv.filter.checks import Checks
from mailserv.filter.logins import Logins
from mailserv.hooks.runner import Runner
from mailserv.mailboxes.rules import Rules
from mailserv.net.tls import Certificates
from mailserv.pop3.listings import Listings
from mailserv.protocol.pop3_extensions import NO_EXTENSIONS, Pop3ExtensionTable
from mailserv.settings import Settings
from mailserv.store.interface import Store


class OpenMaildrops:
    """The exclusive lock of RFC 1939 §4, for the sessions of this process (one server has one data_dir). Any thread.

    `listings`: what those had that were open before.
    """

    def __init__(self) -> None:
        self.listings = Listings()
        self._lock = threading.Lock()
        self._open: set[str] = set()

    def acquire(self, address: str) -> bool:
        """Whether the maildrop is this session's now; never waits."""
        with self._lock:
            if address in self._open:
                return False
            self._open.add(address)
            return True

    def is_open(self, address: str) -> bool:
        """Whether a session has it, at this moment."""
        with self._lock:
            return address in self._open

    def release(self, address: str) -> None:
        """By the session that has it."""
        with self._lock:
            self._open.discard(address)


@dataclass(frozen=True, slots=True)
class Pop3Context:
    """Frozen: a session keeps the one it started with. `maildrops` is the same for all of them, over every reload."""

    settings: Settings
    clock: Clock
    store: Store
    logins: Logins
    maildrops: OpenMaildrops
    certificates: Certificates | None
    allows_plaintext: Callable[[str], bool]
    checks: Checks | None = None
    rules: Rules = field(default_factory=Rules)
    extensions: Pop3ExtensionTable = NO_EXTENSIONS
    runner: Runner | None = None
