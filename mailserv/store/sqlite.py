"""The Store over SQLite: `open_store` builds it, `SqliteStore` sends each call to the module that knows how."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from mailserv.clock import Clock
from mailserv.errors import MailboxFull, StoreError, StoreUnavailable
from mailserv.logging import get_logger
from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.message import Acceptance, Content
from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.store import accounts, deliveries, maildrop, once, plugin_tables, queue_admin, queue_rows, settling
from mailserv.store import trace as traces
from mailserv.store.acceptance import commit, prepare
from mailserv.store.ballast import Ballast
from mailserv.store.beside import Beside
from mailserv.store.connection import (
    BUSY_TIMEOUT,
    COMMAND_BUSY_TIMEOUT,
    Readers,
    as_store_error,
    open_reader,
    open_writer,
)
from mailserv.store.content import Damaged
from mailserv.store.deletions import NEWEST, Sweeper
from mailserv.store.directory import make, make_database, reserve
from mailserv.store.disk import DISK, Disk, store_error
from mailserv.store.interface import Account, QueueEntry, Settlement, Store
from mailserv.store.listing import Listing, MaildropMessage, listing
from mailserv.store.mailboxes import SqliteMailboxes
from mailserv.store.nudge import Listener, nudge
from mailserv.store.part import ALONE, NUDGE, Follower, Part, Turns
from mailserv.store.plugin_tables import PluginTable
from mailserv.store.rerouting import reroute
from mailserv.store.room import Room
from mailserv.store.spool import ContentWriter, Spool
from mailserv.store.totals import Fit
from mailserv.store.writer import Writer

DATABASE = "mailserv.db"

log = get_logger("store")


def open_store(data_dir: Path, clock: Clock, *, exclusive: bool = True, disk: Disk = DISK, part: Part = ALONE) -> Store:
    """Open the store in `data_dir`, made if need be (mode 0700).

    `exclusive`: for the server. It takes the directory's lock (a second server gets StoreUnavailable that names the
    holder's process id), finishes what a crash left half done, and hears of other processes' changes. Without it, for
    commands beside a running server or without one. `part`: of a server of several processes; it has the lock (`reserve`).
    Raises StoreError.
    """
    path = data_dir / DATABASE
    with ExitStack() as undo:
        if exclusive and part == ALONE:
            undo.callback(os.close, reserve(data_dir, disk))
        else:
            make(data_dir, disk)
        make_database(path, disk, is_command=not exclusive)
        spool = Spool(data_dir / "spool", disk)
        undo.callback(spool.close)
        readers = Readers(path, lambda: open_reader(path, disk))
        undo.callback(readers.close)
        store = SqliteStore(path, clock, disk, spool, readers, None if exclusive else Beside(data_dir, clock), part)
        undo.callback(store.writer.close)
        undo.callback(store.sweeper.close)
        store.refresh()
        if exclusive:
            if part.is_first:
                store.tidy()
            _listen(part.fifo(data_dir), store, undo, is_needed=part != ALONE)
        store.closing = undo.pop_all()
        return store


def _listen(path: Path, store: SqliteStore, undo: ExitStack, *, is_needed: bool) -> None:
    try:
        undo.callback(Listener(path, store.look, store.queued).close)
    except OSError as error:  # everything works, but for an operator's orders that then wait for the next timer
        if is_needed:
            raise store_error(path, error) from error
        log.warning("store_no_nudge", file=str(path), error=str(error))


class SqliteStore:
    """See `interface.Store`."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        disk: Disk,
        spool: Spool,
        readers: Readers,
        beside: Beside | None,
        part: Part,
    ) -> None:
        """Starts the writer. `beside`: for a command that may run beside the server. Raises StoreError."""
        self._path = path
        self._clock = clock
        self._spool = spool
        self._readers = readers
        self._room = Room(path.parent, clock, disk, readers.reusable)
        self._ballast = Ballast(path.parent / "ballast")
        self._known = accounts.Known(readers)
        self._lock = threading.Lock()
        self._callbacks: tuple[Callable[[frozenset[Route]], None], ...] = ()
        self._order_callbacks: tuple[Callable[[], None], ...] = ()
        self.closing = ExitStack()
        self._aside: Beside | Follower | None = beside
        if beside is None and not part.is_first:
            self._aside = Follower(path.parent)
        timeout = BUSY_TIMEOUT if beside is None else COMMAND_BUSY_TIMEOUT
        try:
            self.writer = Writer(
                path,
                lambda: open_writer(path, disk, timeout),
                committed=self._committed,
                remove=spool.remove,
                rest=self._aside.rest if self._aside is not None else None,
                make_room=self._ballast.throw_out,
                turns=Turns(None if part == ALONE else path.parent / "turn"),
                patience=timeout,
            )
        except sqlite3.Error as error:
            raise as_store_error(path, error) from error
        self.sweeper = Sweeper(self.writer, in_background=beside is None)
        self.mailboxes = SqliteMailboxes(self.writer, readers, spool, clock)

    def _committed(self, queued: frozenset[Route]) -> None:
        if self._aside is not None:
            self._aside.tell(queued)
        self.queued(queued)

    def queued(self, routes: frozenset[Route]) -> None:
        """These destinations got work, perhaps by another process. Any thread."""
        if routes:
            for callback in self._callbacks:
                callback(routes)

    # for `open_store`

    def tidy(self) -> None:
        """Finish what a crash cut short: files without a row, removed accounts; deletions, without waiting for it."""
        with self._readers.connection() as connection:
            self._spool.collect(
                lambda n: bool(connection.execute("SELECT 1 FROM message WHERE file = ?", (n,)).fetchone())
            )
            unfinished = accounts.unfinished(connection)
            if connection.execute(NEWEST).fetchone():
                self.sweeper.kick()
        for account_id in unfinished:
            accounts.empty(self.writer, account_id)

    def look(self) -> None:
        """Another process changed the database. Raises StoreError."""
        self.refresh()
        self._ballast.look()
        if not self._callbacks:
            return
        now = self._clock.now()
        due = [route for route, at in self.destinations() if at <= now]
        self.writer.run(lambda work: work.queued.update(due))
        for callback in self._order_callbacks:
            callback()

    def refresh(self) -> None:
        """Read the accounts anew. Raises StoreError."""
        self._known.refresh()

    # content and acceptance

    def spool(self, queue_id: str) -> ContentWriter:
        return self._spool.writer(queue_id)

    def accept(self, acceptance: Acceptance, notices: Sequence[Acceptance] = ()) -> str:
        prepared = prepare(acceptance, self._spool)
        told = [prepare(each, self._spool) for each in notices]
        files = [each.file for each in (prepared, *told) if each.file]
        try:
            found = self.writer.run(lambda work: commit(work, prepared, told), prepared.weight)
            if isinstance(found, Fit) and found.full:  # raised in there, others' work of its commit would run again
                raise MailboxFull(found.full, never_fits=found.never_fits)
        except StoreError:
            for file in files:
                self._spool.discard(file)
            if prepared.mailboxes:
                self._known.refresh()  # perhaps another process removed an account
            raise
        if not isinstance(found, Fit):
            for file in files:
                self._spool.discard(file)
            return found
        for file in files:
            self._spool.claimed(file)
        if found.nearly_full:
            self.mailboxes.nearly_full(found.nearly_full)
        return prepared.queue_id

    def accepted_once(self, key: str) -> str | None:
        with self._readers.connection() as connection:
            return once.made(connection, key, self._clock.now())

    def has_room(self, octets: int) -> bool:
        if not self._room.has(octets):
            return False
        self._ballast.take_in()
        return True

    # queue

    def destinations(self) -> list[tuple[Route, float]]:
        with self._readers.connection() as connection:
            return queue_rows.destinations(connection)

    def claim(
        self, route: Route, owner: str, now: float, until: float, limit: int
    ) -> tuple[list[Delivery], float | None]:
        claimed = self.writer.run(lambda work: queue_rows.claim(work, route, owner, now, until, limit), frees=True)
        if not claimed.rows:
            return [], claimed.next_due
        found, broken = deliveries.load(self._readers, self._spool, route, claimed)
        for each in broken:
            self._quarantine(owner, each)
        return found, claimed.next_due

    def _quarantine(self, owner: str, broken: deliveries.Broken) -> None:
        now = self._clock.now()
        count = self.writer.run(
            lambda work: queue_rows.quarantine(work, owner, broken.queue_id, broken.row_ids, broken.reason, now)
        )
        if count:
            log.error("store_quarantined", queue_id=broken.queue_id, rows=list(broken.row_ids), reason=broken.reason)

    def settle(
        self,
        owner: str,
        settlements: Sequence[Settlement],
        bounces: Sequence[Acceptance] = (),
        trace: Iterable[tuple[str, TraceEntry]] = (),
        *,
        wait: bool = True,
    ) -> None:
        settling.settle(self.writer, self._spool, owner, settlements, bounces, trace, now=self._clock.now(), wait=wait)

    def renew(self, owner: str, until: float) -> None:
        self.writer.run(lambda work: queue_rows.renew(work, owner, until), frees=True)

    def reclaim(self, owner: str, now: float) -> int:
        return self.writer.run(lambda work: queue_rows.reclaim(work, owner, now), frees=True)

    def on_queued(self, callback: Callable[[frozenset[Route]], None]) -> None:
        with self._lock:
            self._callbacks = (*self._callbacks, callback)

    def on_order(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._order_callbacks = (*self._order_callbacks, callback)

    def order(self) -> None:
        if isinstance(self._aside, Follower):
            nudge(self._path.parent / NUDGE)
        for callback in self._order_callbacks:
            callback()

    # queue, for operators

    def queue_list(self, queue_ids: Sequence[str] = (), *, after: int = 0, limit: int = -1) -> list[QueueEntry]:
        with self._readers.connection() as connection:
            return queue_admin.entries(connection, queue_ids, after, limit)

    def queue_counts(self) -> dict[str, int]:
        with self._readers.connection() as connection:
            return queue_admin.counts(connection)

    def queue_retry(self, queue_ids: Sequence[str], now: float) -> int:
        return queue_admin.carry_out(self.writer, queue_admin.RETRY, queue_ids, now)

    def queue_start(self, domain: str, *, subdomains: bool, now: float) -> int:
        with self._readers.connection() as connection:
            waiting = queue_admin.waiting(connection, domain, subdomains=subdomains)
        return queue_admin.start(self.writer, waiting, now)

    def queue_bring_forward(self, after: float, now: float) -> int:
        with self._readers.connection() as connection:
            late = queue_admin.late(connection, after)
        return queue_admin.start(self.writer, late, now)

    def queue_reroute(self, moves: Sequence[tuple[QueueEntry, Route]], now: float) -> int:
        return reroute(self.writer, moves, now)

    def queue_hold(self, queue_ids: Sequence[str]) -> int:
        return queue_admin.carry_out(self.writer, queue_admin.HOLD, queue_ids, self._clock.now())

    def queue_release(self, queue_ids: Sequence[str], now: float) -> int:
        return queue_admin.carry_out(self.writer, queue_admin.RELEASE, queue_ids, now)

    def queue_drop(self, queue_ids: Sequence[str], now: float) -> int:
        return queue_admin.carry_out(self.writer, queue_admin.DROP, queue_ids, now)

    def queue_open(self, queue_id: str) -> Delivery | None:
        return deliveries.load_open(self._readers, self._spool, queue_id)

    def queue_give_up(
        self, rows: Sequence[QueuedRow], bounces: Sequence[Acceptance], trace: Iterable[tuple[str, TraceEntry]]
    ) -> bool:
        return settling.give_up(self.writer, self._spool, rows, bounces, trace)

    # trace

    def trace(self, queue_id: str) -> list[TraceEntry]:
        with self._readers.connection() as connection:
            return traces.read(connection, queue_id)

    def expire_trace(self, before: float) -> int:
        return traces.expire(self.writer, before)

    # plugins

    def plugin_table(self, plugin: str) -> PluginTable:
        return PluginTable(plugin, self.writer, self._readers, self._clock)

    def expire_plugin_values(self, now: float) -> int:
        return plugin_tables.expire(self.writer, now)

    # accounts

    def add_account(
        self, address: str, password_hash: str, now: float, verifiers: Mapping[str, str] | None = None
    ) -> None:
        self.writer.run(lambda work: accounts.add(work, address, password_hash, now, verifiers or {}))
        self._known.refresh()

    def set_password(self, address: str, password_hash: str, verifiers: Mapping[str, str] | None = None) -> bool:
        return self.writer.run(lambda work: accounts.set_password(work, address, password_hash, verifiers or {}))

    def verifier(self, address: str, mechanism: str) -> str | None:
        with self._readers.connection() as connection:
            return accounts.verifier(connection, address, mechanism)

    def keep_verifier(self, address: str, mechanism: str, verifier: str, password_hash: str) -> None:
        self.writer.run(lambda work: accounts.keep_verifier(work, address, mechanism, verifier, password_hash))

    def remove_account(self, address: str) -> bool:
        account_id = self.writer.run(lambda work: accounts.mark_gone(work, address), frees=True)
        if account_id is None:
            return False
        self._known.refresh()
        accounts.empty(self.writer, account_id)
        return True

    def accounts(self) -> list[Account]:
        with self._readers.connection() as connection:
            return accounts.listing(connection)

    def has_account(self, address: str) -> bool:
        return self._known.has(address)

    def password_hash(self, address: str) -> str | None:
        with self._readers.connection() as connection:
            return accounts.password_hash(connection, address)

    # maildrop

    def maildrop(self, address: str) -> Sequence[MaildropMessage]:
        return self.listing(address).messages

    def listing(self, address: str, known: Listing | None = None) -> Listing:
        with self._readers.connection() as connection:
            return listing(connection, address, known)

    def read(self, message: MaildropMessage) -> Content | None:
        try:
            with self._readers.connection() as connection:
                return maildrop.read(connection, self._readers, self._spool, message)
        except Damaged as error:
            log.error("store_message_damaged", unique_id=message.unique_id, reason=str(error))
            raise StoreUnavailable(f"{message.unique_id}: {error}") from error

    def read_ahead(self, messages: Sequence[MaildropMessage]) -> dict[str, Content]:
        with self._readers.connection() as connection:
            return maildrop.read_ahead(connection, messages)

    def delete(self, messages: Sequence[MaildropMessage]) -> None:
        if maildrop.delete(self.writer, messages):
            self.sweeper.kick()

    def close(self) -> None:
        with self._lock:
            self.closing.close()
