"""Every hook: when it is called, on which thread, what its answer means, and what happens when it raises.

Kinds (docs/hooks.md is printed from here): *collect* at start, all answers; *decide* None or a Verdict, the strictest wins;
*provide* the first answer that is not None; *notify* the answer is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeVar

import pluggy

from mailserv.mail.address import Address
from mailserv.mail.delivery import Transport
from mailserv.mail.envelope import Envelope
from mailserv.mail.extension import SMTPExtension
from mailserv.mail.message import Content
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply
from mailserv.mail.verdict import Action, Verdict

F = TypeVar("F", bound=Callable[..., Any])


class Kind(Enum):
    """What the runner does with the answers and with a plugin that fails."""

    COLLECT = "collect"
    DECIDE = "decide"
    PROVIDE = "provide"
    TRANSFORM = "transform"
    GATHER = "gather"
    NOTIFY = "notify"


OnError = Literal["tempfail", "skip"]
BUDGET = 10.0  # seconds for one call: a client waits for 5 minutes (RFC 5321 §4.5.3.2), a dozen plugins still fit


@dataclass(frozen=True, slots=True)
class Spec:
    """What the runner knows of a hook. `changes`: the argument that a transform hands on."""

    kind: Kind
    is_answer: Callable[[Any], bool]
    on_error: OnError
    budget: float
    changes: str


KINDS: dict[str, Kind] = {}
SPECS: dict[str, Spec] = {}
_spec = pluggy.HookspecMarker("mailserv")


def is_refusal(answer: object) -> bool:
    """A Verdict that refuses: 4xx or 5xx, in lines that cannot break the reply. Anything else would be a lie."""
    if not isinstance(answer, Verdict) or not isinstance(answer.reply, Reply) or not isinstance(answer.action, Action):
        return False
    return 400 <= answer.reply.code <= 599 and all(map(str.isprintable, answer.reply.text.split("\n")))


def _anything(_: object) -> bool:
    return True


def hook(
    kind: Kind,
    *,
    is_answer: Callable[[Any], bool] | None = None,
    on_error: OnError = "tempfail",
    budget: float = BUDGET,
    changes: str = "",
) -> Callable[[F], F]:
    """Declare a hook and what the runner must know of it in one place. `on_error` is the default of the operator's."""

    def declare(function: F) -> F:
        KINDS[function.__name__] = kind
        judge = is_answer or (is_refusal if kind is Kind.DECIDE else _anything)
        SPECS[function.__name__] = Spec(kind, judge, on_error, budget, changes)
        return _spec(function)

    return declare


@hook(Kind.COLLECT)
def register_smtp_extensions() -> Iterable[SMTPExtension]:
    """SMTP service extensions: EHLO keywords, verbs, parameters.

    Called: once at start. Thread: main. Answer: any number of SMTPExtension.
    Raises: the server does not start, and names the plugin; so does a keyword or verb that two plugins claim.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.COLLECT)
def register_transports() -> Iterable[tuple[str, Transport]]:
    """Ways out of the queue besides "smtp", each under a name that a Route may carry.

    Called: once at start. Thread: main. Answer: (name, Transport) pairs; the transport's methods run on queue workers.
    Raises: the server does not start, and names the plugin.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.DECIDE)
def smtp_connect(peer: Peer) -> Verdict | None:
    """A client has connected; nothing has been sent yet.

    Called: once per session, before the greeting. Thread: the session's. Answer: None, or a Verdict (the session gets
    its reply, as a 421 or 554, and ends). Raises: 421 4.3.0 and the session ends.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.DECIDE)
def smtp_helo(peer: Peer) -> Verdict | None:
    """The client said EHLO or HELO; `peer.helo` is what it claims.

    Called: for each EHLO/HELO. Thread: the session's. Answer: None or a Verdict. Raises: 451 for this command.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.DECIDE)
def smtp_mail(peer: Peer, envelope: Envelope) -> Verdict | None:
    """MAIL FROM with its parameters; the envelope has no recipient yet.

    Called: for each MAIL that our own rules let pass. Thread: the session's. Answer: None or a Verdict.
    Raises: 451 for this command.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.DECIDE)
def smtp_rcpt(peer: Peer, envelope: Envelope, forward_path: Address) -> Verdict | None:
    """RCPT TO; the envelope holds the recipients accepted before this one.

    Called: for each RCPT that routing and relay rules let pass. Thread: the session's. Answer: None or a Verdict.
    Raises: 451 for this command.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.DECIDE)
def smtp_data(peer: Peer, envelope: Envelope) -> Verdict | None:
    """DATA, before 354.

    Called: once per transaction. Thread: the session's. Answer: None or a Verdict. Raises: 451 for this command.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.DECIDE)
def message_check(peer: Peer, envelope: Envelope, content: Content) -> Verdict | None:
    """The whole message is here; nothing is committed.

    Called: once per message, after its final dot. Thread: the session's. Answer: None or a Verdict (the reply to the
    dot). Raises: 451 for this message.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.NOTIFY)
def message_accepted(queue_id: str, peer: Peer, envelope: Envelope) -> None:
    """A message has been committed and its 250 is on its way.

    Called: once per accepted message, after the commit. Thread: the session's. Answer: ignored. Raises: logged.
    """
    raise AssertionError("a specification is never called")
