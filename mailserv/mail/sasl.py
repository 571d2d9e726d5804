"""The door for SASL mechanisms (RFC 4422): how one may log in, over SMTP (RFC 4954) and POP3 (RFC 5034) alike."""

from __future__ import annotations

from collections.abc import Callable, Generator

from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply
from mailserv.mail.value import Private, Value

LOGIN_SERVICES = frozenset({"submission", "submissions", "pop3", "pop3s"})


class Known(Private, frozen=True):
    """What a claimed name stands for.

    `address`: the account's, canonical, whatever way the client wrote it; "" for what can be none. `verifier`: what the
    mechanism once made of its password; None when there is no such account, or it has none. The client must not be able
    to tell one from the other.
    """

    address: str
    verifier: str | None  # invariant 10


class SaslView(Value, frozen=True):
    """What a mechanism may know: values, and a look-up in what it keeps. `look_up` raises StoreError."""

    peer: Peer
    hostname: str
    look_up: Callable[[str], Known]


class Credentials(Private, frozen=True):
    """An outcome: what the client claims, for the server to verify. `authzid` is "" when it asks to act as itself."""

    authcid: str
    authzid: str
    password: str  # invariant 10


class Proof(Value, frozen=True):
    """An outcome: the mechanism has found out by itself whether the client is whom it claims to be.

    `authcid`: the address of an account; a proof of what is none is a failed login.
    """

    authcid: str
    is_good: bool


class SaslFailed(Value, frozen=True):
    """An outcome: the exchange is over before there was anything to verify. No failed login: nobody was guessed at."""

    reply: Reply


Outcome = Credentials | Proof | SaslFailed

Exchange = Generator[bytes, bytes, Outcome]
"""One exchange. What it yields goes to the client as a challenge, what comes back is the client's answer, base64 undone;
what it returns is the outcome. The first challenge is not sent when the client brought its first answer along. A
ValueError says that an answer was malformed; a GeneratorExit that the client gave up, or is gone."""


class SaslMechanism(Value, frozen=True):
    """`name`: as on the wire, in capitals (RFC 4422 §3.1). `begin(view)` is called for each AUTH, on the session's thread.

    `make_verifier(password)`: what is kept beside the password's hash, from the moment that a password is set, or given
    and right; None for a password that it cannot take. It comes back as `Known.verifier`.
    """

    name: str
    begin: Callable[[SaslView], Exchange]
    services: frozenset[str] = LOGIN_SERVICES
    make_verifier: Callable[[str], str | None] | None = None
