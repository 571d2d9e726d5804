"""A router over a handful of accounts, for the tests of routing."""

from __future__ import annotations

from typing import Any

from mailserv.mail.address import parse_mailbox, parse_path
from mailserv.route.router import Router
from mailserv.settings import Settings

ACCOUNTS = ("alice@example.org", "bob@example.org", "carol@second.example", "with+plus@example.org")


def router(*accounts: str, local_ips: tuple[str, ...] = (), **settings: Any) -> Router:
    names = sorted(accounts or ACCOUNTS)

    def first_account(domain: str) -> str | None:
        return next((name for name in names if not domain or name.endswith(f"@{domain}")), None)

    given_settings: dict[str, Any] = {
        "hostname": "mx.example.org",
        "local_domains": ("example.org", "second.example"),
        **settings,
    }
    return Router.from_settings(
        Settings(**given_settings), names.__contains__, first_account=first_account, local_ips=local_ips
    )


def reached(made: Router, text: str, here: str = "") -> list[str]:
    """Accounts and forward-paths that mail for `text` comes to, in order; a refusal's text instead."""
    resolution = made.resolve(parse_path(f"<{text}>")[0], here)
    if resolution.refusal:
        assert not resolution.mailboxes
        assert not resolution.remotes
        return [str(resolution.refusal.enhanced)]
    return [account for account, _ in resolution.mailboxes] + [str(address) for address, _ in resolution.remotes]


def delivered_to(made: Router, text: str) -> list[str]:
    return [str(address) for _, address in made.resolve(parse_mailbox(text)).mailboxes]
