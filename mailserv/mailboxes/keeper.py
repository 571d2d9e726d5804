"""Looks after the mailboxes, on a thread of its own: what has had its time goes, whose mailbox is nearly full is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from mailserv.clock import Clock, DateWatch
from mailserv.config.problems import did_you_mean
from mailserv.errors import StoreError
from mailserv.logging import get_logger
from mailserv.mail.queue_id import QueueIds
from mailserv.mailboxes.rules import Rule, Rules
from mailserv.mailboxes.warning import compose
from mailserv.store.interface import NEARLY_FULL, Store, Usage

_log = get_logger("mailboxes")

FIRST_ROUND = 60.0  # seconds after the start: not while everything else starts
ROUND = 3600.0  # seconds from one look at all mailboxes to the next; EXPIRE tells days
TELLING = 60.0  # seconds of one mailbox's expiry until the log says how far it is
REST = 60.0  # seconds until a round that failed is tried again


class Keeper:
    """`start`, `reload` and `stop` belong to the server's thread; `wake` to any.

    Between two batches of a deletion new mail is committed (`store.retention`). A maildrop that a POP3 session has open is
    left alone until a later round: its numbers stand for messages that are there (RFC 1939 §5).
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        rules: Rules,
        hostname: str,
        queue_ids: QueueIds,
        is_open: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`is_open(account)`: a POP3 session has this maildrop."""
        self._store = store
        self._clock = clock
        self._rules = rules
        self._hostname = hostname
        self._queue_ids = queue_ids
        self._is_open = is_open
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._nearly_full: set[str] = set()
        self._next_round = 0.0
        self._told: Rules | None = None
        self._date = DateWatch(clock)
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="mailbox-keeper", daemon=True)

    def start(self) -> None:
        """Raises RuntimeError (threads)."""
        self._next_round = self._clock.now() + FIRST_ROUND
        self._store.mailboxes.on_nearly_full(self._note)
        self._thread.start()

    def reload(self, rules: Rules) -> None:
        """New rules count from the next round on, which begins at once."""
        self._rules = rules
        self._next_round = 0.0
        self._wanted.set()

    def wake(self) -> None:
        """Look at the clock: after a test's has moved."""
        self._wanted.set()

    def stop(self) -> None:
        """End after the batch that runs. Idempotent."""
        self._is_stopping = True
        self._wanted.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _note(self, account: str) -> None:
        with self._lock:
            self._nearly_full.add(account)
        self._wanted.set()

    # From here on: the keeper's thread.

    def _run(self) -> None:
        while not self._is_stopping:
            self._wanted.wait(min(max(self._next_round - self._clock.now(), 0.0), ROUND))
            self._wanted.clear()
            try:
                self._work()
            except StoreError as error:
                _log.error("mailbox_chore_failed", error=str(error))
                self._next_round = self._clock.now() + REST
            except Exception:  # noqa: BLE001 - a fault of ours: mail is delivered without a keeper too
                _log.exception("mailbox_keeper_broke")
                self._next_round = self._clock.now() + REST

    def _work(self) -> None:
        rules = self._rules
        with self._lock:
            noted, self._nearly_full = self._nearly_full, set()
        for account in noted:
            self._warn(rules, account, self._store.mailboxes.usage(account))
        now = self._clock.now()
        is_due = not 0 < self._next_round - now <= ROUND  # further away: the machine's date was set back
        if is_due and not self._is_stopping:
            self._next_round = now + ROUND
            self._round(rules, now)

    def _round(self, rules: Rules, now: float) -> None:
        usages = self._store.mailboxes.usages()
        is_in_doubt = self._date.is_in_doubt()
        if is_in_doubt:  # one that is wrong by years would empty every mailbox before anybody has seen it
            _log.warning("mailbox_expiry_waits", days=self._date.days)
        if rules is not self._told:
            self._told = rules
            _tell_unknown(rules, usages)
        for account, usage in usages.items():
            if self._is_stopping:
                return
            self._warn(rules, account, usage)
            if usage.messages and not is_in_doubt:
                self._expire(rules, account, now)

    def _warn(self, rules: Rules, account: str, usage: Usage) -> None:
        quota = rules.of(account).quota
        if not quota or usage.is_warned or usage.octets < quota * NEARLY_FULL:
            return
        now = self._clock.now()
        queue_id = self._queue_ids.make(now)
        notice = compose(account, usage, quota, hostname=self._hostname, queue_id=queue_id, now=now)
        if self._store.mailboxes.warn(account, quota, notice):
            _log.info("mailbox_nearly_full", queue_id=queue_id, account=account, octets=usage.octets, quota=quota)

    def _expire(self, rules: Rules, account: str, now: float) -> None:
        while self._expire_some(rules.of(account), account, now):
            pass

    def _expire_some(self, rule: Rule, account: str, now: float) -> bool:
        """For a minute, so that the log tells of a large mailbox while it becomes smaller. Whether there was something."""
        mailboxes, until = self._store.mailboxes, self._clock.monotonic() + TELLING

        def go_on() -> bool:
            return not (self._is_stopping or self._is_open(account)) and self._clock.monotonic() < until

        old = mailboxes.expire(account, now - rule.expire, go_on) if rule.expire else 0
        stay = rule.leave_on_server_max
        retrieved = mailboxes.expire_retrieved(account, now - stay, go_on) if stay else 0
        if old or retrieved:
            _log.info("mailbox_expired", account=account, old=old, retrieved=retrieved)
        return bool(old or retrieved)


def _tell_unknown(rules: Rules, accounts: Iterable[str]) -> None:
    """Settings for an account that is not there help nobody; most likely its name is misspelt."""
    known = set(accounts)
    for account in sorted(rules.accounts.keys() - known):
        _log.warning("mailbox_unknown", account=account, hint=did_you_mean(account, known).removeprefix("; "))
