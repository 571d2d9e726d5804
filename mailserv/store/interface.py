"""The Store: everything durable passes through these methods, whatever is behind them. No SQL leaves this package.

SQLite is the embedded one; many nodes may one day share another, so a claim is a lease (owner, until).
Every method may be called from any thread, blocks until its work is committed and synced (unless it says otherwise),
and raises StoreError (StorageFull, StoreUnavailable) with nothing done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.message import Acceptance, Content
from mailserv.mail.plugin import Table
from mailserv.mail.reply import Reply
from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.store.listing import Listing, MaildropMessage


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of one claimed row: `state` is a word of `queue/state.py` ("ready", "done", "failed", "held").

    `not_before` (epoch seconds) and `reply` matter for "ready"; done and failed rows leave the queue.
    Settling a row that is no longer claimed by `owner` changes nothing (its lease had run out).
    """

    row: QueuedRow
    state: str
    not_before: float = 0.0
    reply: Reply | None = None
    remote: str = ""
    delay_notified: bool = False
    counts_attempt: bool = True


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A queue row as an operator sees it."""

    row_id: int
    queue_id: str
    state: str
    reverse_path: str
    forward_path: str
    route: Route
    size: int
    received_at: float
    not_before: float
    attempts: int
    last_reply: str
    login: str
    remote: str = ""  # who gave the last reply


@dataclass(frozen=True, slots=True)
class Account:
    """A local account: a mailbox and a login. `address` is canonical (`Address.key`)."""

    address: str
    created_at: float


NEARLY_FULL = 0.9  # of a quota: its owner is told, once


@dataclass(frozen=True, slots=True)
class Usage:
    """What a mailbox holds. `is_warned`: its owner was told that it is nearly full."""

    messages: int
    octets: int
    is_warned: bool = False


@dataclass(frozen=True, slots=True)
class MailboxEntry:
    """A message of a mailbox as an operator sees it. `received_at`: epoch seconds; `reverse_path`: "" for the null one."""

    message: MaildropMessage
    received_at: float
    reverse_path: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A message for one mailbox from elsewhere. `key`: what it is known by, so that it comes once; 1–64 octets.

    `acceptance.received_at` is when it was received there; its time in this mailbox (`expire`) begins at `arrived_at`.
    """

    key: bytes
    acceptance: Acceptance
    arrived_at: float


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the store that is not as it must be: what it is about, and what is wrong."""

    where: str
    what: str


class Mailboxes(Protocol):
    """Mailboxes as those see them who look after them: what they hold, what has to go. `account`: `Address.key`."""

    def usage(self, account: str) -> Usage:
        """Fast: a look-up, never a sum."""
        ...

    def usages(self) -> dict[str, Usage]:
        """Of every account, in the order of the addresses."""
        ...

    def on_nearly_full(self, callback: Callable[[str], None]) -> None:
        """Call back with an account whose mailbox an acceptance brought to NEARLY_FULL, before `accept` returns. On
        the thread that called `accept`: only signal."""
        ...

    def warn(self, account: str, quota: int, notice: Acceptance) -> bool:
        """Commit the notice that the mailbox is nearly full, unless that is told already or no longer true."""
        ...

    def expire(self, account: str, before: float, go_on: Callable[[], bool]) -> int:
        """Delete what came before that time (epoch seconds), in small transactions, as long as `go_on()`. How many."""
        ...

    def expire_retrieved(self, account: str, before: float, go_on: Callable[[], bool]) -> int:
        """The same for what was retrieved before that time."""
        ...

    def mark_retrieved(self, messages: Sequence[MaildropMessage], now: float) -> None:
        """A client has these. Only the first time counts."""
        ...

    def entries(self, account: str) -> list[MailboxEntry]:
        """The mailbox's messages, oldest first, without reading a body."""
        ...

    def is_imported(self, account: str, key: bytes) -> bool:
        """Whether a message with this key was ever imported to this account."""
        ...

    def import_messages(self, account: str, messages: Sequence[Imported], *, again: bool = False) -> int:
        """Commit them in one transaction, without those whose key is there (`again`: with them). How many came.

        Quotas are not asked. On an error the spooled contents are discarded. Raises StoreError without such an account.
        """
        ...

    def verify(self, step: Callable[[str], None] = lambda _: None) -> Iterator[Finding]:
        """Check the store against itself; changes nothing. `step` hears what is looked at next."""
        ...

    def repair_totals(self) -> int:
        """Count anew what each mailbox holds; in how many that was wrong."""
        ...


class SpoolWriter(Protocol):
    """Takes one message's content as it arrives: in memory while small, in a file when large. One thread."""

    @property
    def size(self) -> int:
        """Octets written so far."""
        ...

    def write(self, block: bytes) -> None:
        """Append. Raises StorageFull or StoreUnavailable; the writer is then only good for `discard`."""
        ...

    def finish(self) -> Content:
        """The content; a file is fsynced, its directory too. Acceptance may name it from now on."""
        ...

    def discard(self) -> None:
        """Forget it; a file is removed. Harmless after `finish` only when nothing was accepted with it."""
        ...


class Store(Protocol):
    """See the module's docstring."""

    @property
    def mailboxes(self) -> Mailboxes: ...

    # content and acceptance
    def spool(self, queue_id: str) -> SpoolWriter:
        """A writer for a new message's content. Touches no disk before the content is large.

        Raises ValueError unless the queue id is 1–60 letters, digits, "-" or "_": it names a file.
        """
        ...

    def accept(self, acceptance: Acceptance, notices: Sequence[Acceptance] = ()) -> str:
        """Commit a message whole: content, mailbox rows, queue rows, trace. Returning means synced (invariant 1). Its queue
        id: that of an earlier one where `acceptance.once` says so, and then nothing is committed.

        `notices` tell of its success and are committed with it; one to a mailbox whose account is gone goes without it.

        A mailbox of an account that is gone raises StoreError, one whose quota leaves no room MailboxFull, a queue id that
        is there DuplicateError. On an error the
        spooled content is discarded. Accepted for nobody: only the trace is kept.
        """
        ...

    def accepted_once(self, key: str) -> str | None:
        """The queue id of the message that was accepted once with this key; None when there was none, or long ago."""
        ...

    def has_room(self, octets: int) -> bool:
        """Whether that much more could be written now, with a reserve (checked against the file system, cached 1 s)."""
        ...

    # queue
    def destinations(self) -> list[tuple[Route, float]]:
        """Every destination with ready rows, and when its first row is due (epoch seconds). For the start."""
        ...

    def claim(
        self, route: Route, owner: str, now: float, until: float, limit: int
    ) -> tuple[list[Delivery], float | None]:
        """Lease up to `limit` due rows of one destination, oldest due first, grouped to one Delivery per message.

        Also returns when the destination's next ready row is due (None: there is none). A message whose content is
        damaged goes to quarantine instead of being returned.
        """
        ...

    def settle(
        self,
        owner: str,
        settlements: Sequence[Settlement],
        bounces: Sequence[Acceptance] = (),
        trace: Iterable[tuple[str, TraceEntry]] = (),
        *,
        wait: bool = True,
    ) -> None:
        """One transaction: states, bounces accepted, trace by queue id. `wait=False` returns once it is handed over;
        an error is then logged and the lease brings the rows back. What another process's transaction or a full disk
        keeps from being written is tried again before each later write, also where it was raised.

        With `bounces`, every row that is not done must still be the owner's: else the bounces are withheld and only done
        rows are settled, since what the bounce tells of may yet be delivered. Trace is written if any row changed. A
        bounce to a mailbox whose account is gone goes without it. Raises ValueError for a state no settlement leads to.
        """
        ...

    def renew(self, owner: str, until: float) -> None:
        """Extend every lease of this owner."""
        ...

    def reclaim(self, owner: str, now: float) -> int:
        """Rows leased by `owner` (a former life of this node) or whose lease ran out become ready. How many.

        A node claims under one owner for each batch, "NODE#1", "NODE#2", …, so that only living batches are renewed;
        `reclaim("NODE", …)` takes back "NODE" and every "NODE#…". `reclaim("", …)` looks at expired leases only.
        """
        ...

    def on_queued(self, callback: Callable[[frozenset[Route]], None]) -> None:
        """Call back once per commit with the destinations that got ready rows due now, before `accept` returns.

        On the writer's thread: only signal. What another process changed (an operator's retry or release) is called
        back too, soon after.
        """
        ...

    def on_order(self, callback: Callable[[], None]) -> None:
        """Call back soon after another process changed the store: an operator wants something, now. On a thread of the
        store's own: only signal."""
        ...

    def order(self) -> None:
        """Call back whoever waits for `on_order`, in the process that runs the queue. Any thread."""
        ...

    # queue, for operators (`queue_ids` empty: all). Each returns how many rows changed, works in small transactions,
    # and leaves claimed rows alone: they are being delivered.
    def queue_list(self, queue_ids: Sequence[str] = (), *, after: int = 0, limit: int = -1) -> list[QueueEntry]:
        """Rows in the order of their ids, above `after`, at most `limit` (-1: all): a long queue is shown in pages."""
        ...

    def queue_counts(self) -> dict[str, int]:
        """Rows in each state (ready, claimed, held, quarantined), for metrics."""
        ...

    def queue_retry(self, queue_ids: Sequence[str], now: float) -> int:
        """Ready rows are due now."""
        ...

    def queue_start(self, domain: str, *, subdomains: bool, now: float) -> int:
        """Ready rows for recipients of `domain`, with `subdomains` of those below it too, are due now. How many messages
        they are of: this one counts no rows (RFC 1985 §5.3)."""
        ...

    def queue_bring_forward(self, after: float, now: float) -> int:
        """Ready rows that would be due after that time are due now. How many messages they are of."""
        ...

    def queue_reroute(self, moves: Sequence[tuple[QueueEntry, Route]], now: float) -> int:
        """Rows that nobody is delivering, and that are as they were, go another way; ready ones now. How many."""
        ...

    def queue_hold(self, queue_ids: Sequence[str]) -> int:
        """Ready rows are held."""
        ...

    def queue_release(self, queue_ids: Sequence[str], now: float) -> int:
        """Held and quarantined rows are ready and due now."""
        ...

    def queue_drop(self, queue_ids: Sequence[str], now: float) -> int:
        """Ready, held and quarantined rows go, and content that nobody refers to any more. Nobody is told."""
        ...

    def queue_open(self, queue_id: str) -> Delivery | None:
        """A message's rows that are ready, held or quarantined; None: there are none. Damaged content is empty."""
        ...

    def queue_give_up(
        self, rows: Sequence[QueuedRow], bounces: Sequence[Acceptance], trace: Iterable[tuple[str, TraceEntry]]
    ) -> bool:
        """As `settle`, for rows of `queue_open` that fail. False, with nothing done, when one is claimed or gone by now."""
        ...

    # trace
    def trace(self, queue_id: str) -> list[TraceEntry]: ...
    def expire_trace(self, before: float) -> int:
        """Delete trace older than `before` in small transactions. How many messages' worth."""
        ...

    # plugins
    def plugin_table(self, plugin: str) -> Table:
        """The plugin's own small table; what it keeps there outlives the server and, until it expires, the plugin."""
        ...

    def expire_plugin_values(self, now: float) -> int:
        """Delete what has expired of all plugins, in small transactions. How many values."""
        ...

    # accounts
    def add_account(
        self, address: str, password_hash: str, now: float, verifiers: Mapping[str, str] | None = None
    ) -> None:
        """`verifiers`: by SASL mechanism, what it wants kept of the password. Raises DuplicateError."""
        ...

    def set_password(self, address: str, password_hash: str, verifiers: Mapping[str, str] | None = None) -> bool:
        """Verifiers of the password before are gone. False if there is no such account."""
        ...

    def verifier(self, address: str, mechanism: str) -> str | None:
        """What that SASL mechanism keeps of the account's password."""
        ...

    def keep_verifier(self, address: str, mechanism: str, verifier: str, password_hash: str) -> None:
        """Keep it, unless the password is another one by now: `password_hash` is of the one that it was made from."""
        ...

    def remove_account(self, address: str) -> bool:
        """With its mailbox. False if there is none."""
        ...

    def accounts(self) -> list[Account]: ...
    def has_account(self, address: str) -> bool:
        """Fast: asked for every RCPT."""
        ...

    def password_hash(self, address: str) -> str | None: ...

    # maildrop
    def maildrop(self, address: str) -> Sequence[MaildropMessage]:
        """The mailbox's messages, oldest first, without reading a body."""
        ...

    def listing(self, address: str, known: Listing | None = None) -> Listing:
        """The same, sooner for who still has what it was before: `known` itself is the answer when nothing has changed."""
        ...

    def read(self, message: MaildropMessage) -> Content | None:
        """Prefix and content of one message; None if it is gone. Raises StoreUnavailable when it is damaged."""
        ...

    def read_ahead(self, messages: Sequence[MaildropMessage]) -> dict[str, Content]:
        """The same of several small messages of one mailbox at once, by unique-id; those that need `read` are left out."""
        ...

    def delete(self, messages: Sequence[MaildropMessage]) -> None:
        """Delete messages of one mailbox in one transaction (RFC 1939 §6). Many are listed no more from then on, and
        removed in small transactions after it, with content that nobody refers to any more."""
        ...

    def close(self) -> None:
        """Finish what was handed over, then close. Idempotent."""
        ...
