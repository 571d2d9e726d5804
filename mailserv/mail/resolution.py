"""The router's answer: where the mail of one forward-path goes."""

from __future__ import annotations

from mailserv.mail.address import Address
from mailserv.mail.reply import Reply
from mailserv.mail.route import Route
from mailserv.mail.value import Value


class Resolution(Value, frozen=True):
    """Mailboxes and next hops, or a refusal, never both; all empty is never returned.

    `mailboxes`: (account, address that reached it) pairs, no account twice. The address keeps its +tag and goes into
    Delivered-To: two recipients that reach an account by two of them make two copies, by one of them one.
    `remotes`: (forward-path, route) pairs, no forward-path twice.
    `is_local`: the forward-path itself is ours to answer for; what an alias of ours points to is then no relaying.
    `refusal`: the reply to RCPT. `steps`: one printable line for each decision, for the trace.
    """

    mailboxes: tuple[tuple[str, Address], ...] = ()
    remotes: tuple[tuple[Address, Route], ...] = ()
    is_local: bool = False
    refusal: Reply | None = None
    steps: tuple[str, ...] = ()
