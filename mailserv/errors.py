"""The family tree of what can go wrong inside; an *expected* failure on the wire is a value (Reply, Outcome, Verdict).

MailservError
├── ConfigError            the TOML or the command line is wrong; carries every problem found
├── AddressSyntaxError     text that is no RFC 5321 mailbox or path
├── ProtocolError          the peer broke the protocol so that the session cannot go on
├── StoreError             the database or the spool could not do its work
│   ├── StorageFull        no room (452 4.3.1)
│   ├── StoreUnavailable   read-only, locked, I/O error, closed (451 4.3.0)
│   ├── MailboxFull        a quota leaves no room for it (452 4.2.2)
│   └── DuplicateError     the row is already there (an account that exists)
├── ResolverError          DNS could not answer now: temporary
└── PluginError            a plugin raised, overran, or answered with a wrong type; carries its name
"""

from __future__ import annotations


class MailservError(Exception):
    """Root of every exception that mailserv raises on purpose."""


class ConfigError(MailservError):
    """Settings that cannot be used. `problems` holds one printable line for each, in file order."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class AddressSyntaxError(MailservError, ValueError):
    """Text that does not follow the Mailbox or Path grammar of RFC 5321 §4.1.2."""


class ProtocolError(MailservError):
    """The peer's bytes cannot be understood; the connection is of no further use."""


class StoreError(MailservError):
    """The store could not do what was asked; nothing of it was done."""


class StorageFull(StoreError):
    """No room on the disk or in the database."""


class StoreUnavailable(StoreError):
    """The database is read-only, locked by another process, damaged or closed."""


class MailboxFull(StoreError):
    """A mailbox of the message has no room for it under its quota. `never_fits`: not even when it is empty."""

    def __init__(self, account: str, *, never_fits: bool) -> None:
        super().__init__(f"{account}: the mailbox is full")
        self.never_fits = never_fits


class DuplicateError(StoreError):
    """The row to be made is already there."""


class ResolverError(MailservError):
    """DNS gave no answer that can be relied on: SERVFAIL, timeout, no server. Try again later."""


class PluginError(MailservError):
    """A plugin raised, overran its budget, or answered with something that is no answer."""

    def __init__(self, plugin: str, hook: str, reason: str) -> None:
        super().__init__(f"plugin {plugin}: {hook}: {reason}")
        self.plugin = plugin
        self.hook = hook
        self.reason = reason
