"""What `[mailboxes]` comes to for each account, and what POP3 clients are told of it (EXPIRE, RFC 2449 §6.7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mailserv.clock import DAY
from mailserv.mail.address import parse_mailbox
from mailserv.settings import Mailbox, Mailboxes


@dataclass(frozen=True, slots=True)
class Rule:
    """Of one account, as the settings say: seconds and octets; 0 is no limit."""

    expire: float = 0.0
    leave_on_server_max: float = 0.0
    quota: int = 0

    @property
    def retention(self) -> float | None:
        """Seconds that a message stays at least when nobody deletes it; None: for ever."""
        return min((limit for limit in (self.expire, self.leave_on_server_max) if limit), default=None)


NO_LIMITS = Rule()


class Rules:
    """Immutable; any thread. A reload makes new ones."""

    def __init__(self, default: Rule = NO_LIMITS, accounts: Mapping[str, Rule] | None = None) -> None:
        """`accounts` by `Address.key`."""
        self.default = default
        self.accounts = dict(accounts or {})
        self.have_quotas = any(rule.quota for rule in (default, *self.accounts.values()))

    @classmethod
    def from_settings(cls, settings: Mailboxes) -> Rules:
        """The settings have been checked."""
        default = Rule(settings.expire, settings.leave_on_server_max, settings.quota)
        return cls(default, {parse_mailbox(name).key: _over(default, box) for name, box in settings.accounts.items()})

    def of(self, account: str) -> Rule:
        """The rule of an account, which need not be there."""
        return self.accounts.get(account, self.default)

    def expire_argument(self, account: str = "") -> str:
        """What stands behind EXPIRE in CAPA: whole days or NEVER, for one account, or before the login for all of them.

        A policy that is not the same for all is told by its shortest time and USER (RFC 2449 §6.7).
        """
        if account:
            return _days(self.of(account).retention)
        all_of_them = {rule.retention for rule in (self.default, *self.accounts.values())}
        shortest = min((limit for limit in all_of_them if limit is not None), default=None)
        return _days(shortest) + (" USER" if len(all_of_them) > 1 else "")


def _days(seconds: float | None) -> str:
    """Rounded down: a promise. Less than a day is 0, "may not be left on the server"."""
    return "NEVER" if seconds is None else str(int(seconds // DAY))


def _over(default: Rule, box: Mailbox) -> Rule:
    return Rule(
        default.expire if box.expire is None else box.expire,
        default.leave_on_server_max if box.leave_on_server_max is None else box.leave_on_server_max,
        default.quota if box.quota is None else box.quota,
    )
