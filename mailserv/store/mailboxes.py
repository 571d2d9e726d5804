"""`interface.Mailboxes` over SQLite: sends each call to the module that knows how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from mailserv.clock import Clock
from mailserv.mail.message import Acceptance
from mailserv.store import importing, maildrop, retention, totals, verify
from mailserv.store.acceptance import insert, prepare
from mailserv.store.connection import Readers
from mailserv.store.interface import Finding, Imported, MailboxEntry, Usage
from mailserv.store.listing import MaildropMessage
from mailserv.store.spool import Spool
from mailserv.store.writer import Work, Writer


class SqliteMailboxes:
    """See `interface.Mailboxes`."""

    def __init__(self, writer: Writer, readers: Readers, spool: Spool, clock: Clock) -> None:
        self._clock = clock
        self._writer = writer
        self._readers = readers
        self._spool = spool
        self._callbacks: tuple[Callable[[str], None], ...] = ()

    def usage(self, account: str) -> Usage:
        with self._readers.connection() as connection:
            return totals.usage(connection, account)

    def usages(self) -> dict[str, Usage]:
        with self._readers.connection() as connection:
            return totals.usages(connection)

    def on_nearly_full(self, callback: Callable[[str], None]) -> None:
        self._callbacks = (*self._callbacks, callback)

    def nearly_full(self, accounts: Iterable[str]) -> None:
        """For the store: these are, since the last commit."""
        for account in accounts:
            for callback in self._callbacks:
                callback(account)

    def warn(self, account: str, quota: int, notice: Acceptance) -> bool:
        prepared = prepare(notice, self._spool)

        def action(work: Work) -> bool:
            if not totals.mark_warned(work, account, quota):
                return False
            insert(work, prepared)
            return True

        return self._writer.run(action, prepared.weight)

    def expire(self, account: str, before: float, go_on: Callable[[], bool]) -> int:
        with self._readers.connection() as connection:
            return retention.expire(connection, self._writer, account, before, go_on)

    def expire_retrieved(self, account: str, before: float, go_on: Callable[[], bool]) -> int:
        with self._readers.connection() as connection:
            return retention.expire_retrieved(connection, self._writer, account, before, go_on)

    def entries(self, account: str) -> list[MailboxEntry]:
        with self._readers.connection() as connection:
            return maildrop.entries(connection, account)

    def is_imported(self, account: str, key: bytes) -> bool:
        with self._readers.connection() as connection:
            return importing.is_known(connection, account, key)

    def import_messages(self, account: str, messages: Sequence[Imported], *, again: bool = False) -> int:
        return importing.commit(self._writer, self._spool, account, messages, again=again)

    def verify(self, step: Callable[[str], None] = lambda _: None) -> Iterator[Finding]:
        with self._readers.connection() as connection:
            yield from verify.findings(connection, self._spool, self._clock.now(), step)

    def repair_totals(self) -> int:
        return self._writer.run(totals.repair)

    def mark_retrieved(self, messages: Sequence[MaildropMessage], now: float) -> None:
        retention.mark_retrieved(self._writer, messages, now)
