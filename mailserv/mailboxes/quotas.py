"""Has the mailbox room? Asked at RCPT, so that mail for a full mailbox waits at its sender's (RFC 3463 §3.3, X.2.2)."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv.errors import StoreError
from mailserv.logging import get_logger
from mailserv.mail.address import Address
from mailserv.mail.reply import LOCAL_ERROR, MAILBOX_FULL, NEVER_FITS, Reply
from mailserv.mailboxes.rules import Rules
from mailserv.store.interface import Mailboxes

_log = get_logger("mailboxes")


class Quotas:
    """Any thread. Where no quota is set nothing is asked of the store."""

    def __init__(self, rules: Rules, mailboxes: Mailboxes) -> None:
        self._rules = rules
        self._mailboxes = mailboxes

    def of(self, account: str) -> int:
        """Octets that its mailbox may hold; 0: no limit."""
        return self._rules.of(account).quota

    def refusal(self, mailboxes: Iterable[tuple[str, Address]], declared: str = "") -> Reply | None:
        """The reply to RCPT when one of the mailboxes that an address leads to is full.

        `declared`: MAIL's SIZE (RFC 1870), which makes it sure that a message does not fit. One full mailbox of several
        refuses them all: to leave it out would lose the message for one who is to have it.
        """
        if not self._rules.have_quotas:
            return None
        size = int(declared) if declared.isdecimal() else 1
        limits = {account: quota for account, _ in mailboxes if (quota := self.of(account))}
        if any(size > quota for quota in limits.values()):
            return NEVER_FITS
        try:
            used = {account: self._mailboxes.usage(account).octets for account in limits}
        except StoreError as error:
            _log.error("quota_unknown", error=str(error))
            return LOCAL_ERROR
        return MAILBOX_FULL if any(used[account] + size > limits[account] for account in limits) else None
