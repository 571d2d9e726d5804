"""Every hook: when it is called, on which thread, what its answer means, and what happens when it raises.

Kinds (docs/hooks.md is printed from here): *collect* at start, all answers; *decide* None or a Verdict, the strictest wins;
*provide* the first answer that is not None; *transform* each gets the last one's output; *gather* all answers while mail
flows; *notify* the answer is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailserv.hooks.kinds import (
    KINDS,
    LONG_BUDGET,
    SPECS,
    Kind,
    Spec,
    hook,
    is_address,
    is_addresses,
    is_auth_results,
    is_bool,
    is_delay,
    is_finding,
    is_maildrop,
    is_notice_words,
    is_resolution,
    is_route,
    is_sent_content,
    is_text,
    is_tls_mode,
    is_traced_content,
)
from mailserv.hooks.specs_at_start import (
    check_config,
    register_commands,
    register_listeners,
    register_pop3_extensions,
    register_sasl_mechanisms,
    register_smtp_extensions,
    register_transports,
)
from mailserv.mail.address import Address
from mailserv.mail.auth_result import AuthResult, AuthResults
from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.envelope import Envelope
from mailserv.mail.finding import Finding
from mailserv.mail.maildrop import OpenedMaildrop
from mailserv.mail.message import BytesContent, Content, PrefixedContent
from mailserv.mail.notice import Notice, NoticeWords
from mailserv.mail.outcome import Outcome
from mailserv.mail.peer import Peer
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route
from mailserv.mail.tls_mode import TLSMode
from mailserv.mail.verdict import Verdict

__all__ = [
    "KINDS",
    "SPECS",
    "Kind",
    "Spec",
    "check_config",
    "register_commands",
    "register_listeners",
    "register_pop3_extensions",
    "register_sasl_mechanisms",
    "register_smtp_extensions",
    "register_transports",
]


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
    """DATA, before 354, or the first BDAT of a message.

    Called: once per transaction. Thread: the session's. Answer: None or a Verdict. Raises: 451 for this command.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.GATHER, is_answer=is_auth_results, on_error="skip", budget=LONG_BUDGET)
def message_authenticate(peer: Peer, envelope: Envelope, content: Content) -> Sequence[AuthResult] | None:
    """Find out who sent a message: results for its one Authentication-Results field (RFC 8601), which the server writes
    below its Received. Forged ones, which claim to be this server's, are gone before anybody sees the message.

    Called: once per message, after its final dot, before `message_check`; whoever is asked after it gets all `results`.
    Thread: the session's. Answer: None, or results. Raises: there is no result of this plugin.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.DECIDE)
def message_check(peer: Peer, envelope: Envelope, content: Content, results: AuthResults) -> Verdict | None:
    """The whole message is here; nothing is committed. `results` are what `message_authenticate` found.

    Called: once per message, after its final dot. Thread: the session's. Answer: None or a Verdict (the reply to the
    dot). Raises: 451 for this message.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.GATHER, is_answer=is_finding, budget=LONG_BUDGET)
def message_scan(peer: Peer, envelope: Envelope, content: Content, results: AuthResults) -> Finding | None:
    """Look at what is in a message: viruses, spam. What was found stands in the message's trace and in the log.

    Called: once per message that passed `message_check`. Thread: the session's. Answer: None: it was not scanned; or a
    Finding. The strictest verdict of all findings is the reply to the dot; without one the message is accepted, with the
    header fields of all findings below its Received. Raises: 451 for this message.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.TRANSFORM, is_answer=is_traced_content, on_error="skip", budget=LONG_BUDGET, changes="content")
def message_rewrite(peer: Peer, envelope: Envelope, content: Content, results: AuthResults) -> BytesContent | None:
    """Change what is about to be accepted: header section, body, both. Who did stands in the message's trace.

    Called: once per message that passed `message_check` and `message_scan`, not for BODY=BINARYMIME. Thread: the session's.
    Answer: None: as it is; else the whole content, CRLF line ends, our Received field still at its top.
    Raises: it stays as it is.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.PROVIDE, is_answer=is_address)
def rewrite_sender(delivery: Delivery) -> Address | None:
    """The reverse-path that the next hop is told (SRS); what comes back to us is still told to `delivery.reverse_path`.

    Called: for each message and next hop before each attempt. Thread: a queue worker's.
    Answer: None: as it is; else the reverse-path. Raises: the attempt is deferred; it is never sent as it was.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.TRANSFORM, is_answer=is_sent_content, budget=LONG_BUDGET, changes="content")
def delivery_rewrite(delivery: Delivery, content: Content) -> BytesContent | PrefixedContent | None:
    """Change what this next hop gets: a signature (DKIM, ARC), a field of its own.

    Called: for each message and next hop before each attempt, after `rewrite_sender`; the queue keeps what it had.
    Thread: a queue worker's. Answer: None: as it is; else the whole content, CRLF line ends; or a PrefixedContent: fields, and
    `content` below them, which then is not read into memory. Raises: the attempt is deferred; it is never sent unsigned.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.NOTIFY)
def message_accepted(queue_id: str, peer: Peer, envelope: Envelope, results: AuthResults) -> None:
    """A message has been committed and its 250 is on its way.

    Called: once per accepted message, after the commit. Thread: the session's. Answer: ignored. Raises: logged.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.PROVIDE, is_answer=is_resolution)
def resolve_recipient(address: Address) -> Resolution | None:
    """Where mail for an address goes: mailboxes, or next hops by any transport, or a refusal.

    Called: for each RCPT, each address that an alias leads to, and each reverse-path that a notice goes to, before our own
    rules; for addresses of any domain. Thread: the session's or a queue worker's.
    Answer: None, or a Resolution, which is the whole answer; the address then counts as ours and is no relaying (invariant 4).
    Mailboxes of accounts that are not there are left out; without any mailbox and next hop left it is an unknown user.
    Raises: 451 for this RCPT.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.PROVIDE, is_answer=is_addresses)
def expand_recipient(address: Address) -> Sequence[Address] | None:
    """The addresses that an address of ours stands for, as an alias does: the reverse-path stays (RFC 5321 §3.9.1).

    Called: for each address in a local domain that is looked up, before aliases and accounts; not again for the same address
    on the way to its own expansion. Thread: the session's or a queue worker's.
    Answer: None, or addresses, which are looked up in turn. Raises: 451 for this RCPT.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.PROVIDE, is_answer=is_route)
def route_delivery(address: Address, route: Route, reverse_path: Address) -> Route | None:
    """The transport and the next hop for an address that is not ours, and for mail that comes from `reverse_path`.

    Called: for each such recipient when it is routed, which is at RCPT; for a question (VRFY, EXPN, whether a login may send
    as that address) `reverse_path` is the null one. Thread: the session's or a queue worker's.
    Answer: None: `route`, which is what [routes] or the domain's MX say; else the Route to take. Raises: 451 for this RCPT.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.PROVIDE, is_answer=is_text)
def authenticate(name: str, password: str, ip: str, service: str) -> str | None:
    """Whether a name and a password are good. `service` is the listener's: submission, submissions, pop3, pop3s.

    Called: for each login that the throttle lets pass, before our own accounts are looked at. Thread: the session's.
    Answer: None: not known here; the address of the account that this is; or "": wrong, and nobody else is asked.
    Raises: a temporary failure for this login (454 4.7.0, [SYS/TEMP]), which does not count as a wrong password.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.PROVIDE, is_answer=is_maildrop, budget=LONG_BUDGET)
def open_maildrop(address: str) -> OpenedMaildrop | None:
    """The maildrop of an account, for POP3, where its mail is not in our store.

    Called: for each POP3 login that is good, when no other session has this account's maildrop. Thread: the session's, as
    are all calls of what it answers with. Answer: None: not served here; or an OpenedMaildrop, whose unique-ids are all
    different. Raises: a temporary failure for this login ([SYS/TEMP]): an empty maildrop would make clients forget.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.PROVIDE, is_answer=is_bool)
def may_send_as(login: str, reverse_path: Address) -> bool | None:
    """Whether a login may use a reverse-path. Never asked for the null one.

    Called: for each MAIL after AUTH. Thread: the session's. Answer: None: our own rule, which is whether mail to that address
    reaches the login; else True or False. Raises: 451 for this MAIL.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.NOTIFY)
def auth_result(name: str, ip: str, service: str, session_id: str, is_good: bool) -> None:
    """Somebody tried to log in; `name` is what was claimed, or the account when it was right.

    Called: once for each login. Thread: the session's, before its reply. Answer: ignored. Raises: logged.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.NOTIFY)
def session_closed(peer: Peer, messages: int, errors: int, seconds: float, reason: str) -> None:
    """An SMTP or POP3 session has ended; `messages` were accepted, or retrieved; `reason` is the log's.

    Called: once for each session, after its last reply. Thread: the session's. Answer: ignored. Raises: logged.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.NOTIFY)
def delivery_finished(delivery: Delivery, row: QueuedRow, outcome: Outcome) -> None:
    """A recipient has left the queue: delivered, or failed (a Deferred was given up). `row` is one of `delivery.rows`.

    Called: once for each such recipient, after its settlement went to the store, not for mailboxes; after a crash perhaps
    twice, as the delivery itself. Thread: a queue worker's. Answer: ignored. Raises: logged.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.PROVIDE, is_answer=is_delay, on_error="skip")
def retry_delay(delivery: Delivery, row: QueuedRow, outcome: Outcome, delay: float) -> float | None:
    """How long until the next attempt for a recipient; `delay` is what [queue] retry says, in seconds.

    Called: after each attempt that will be repeated, once for all recipients of a message that were tried equally often.
    Thread: a queue worker's. Answer: None: `delay`; else seconds, from 1 to 30 days. When to give up is not asked.
    Raises: `delay`.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.DECIDE, on_error="skip")
def dsn_policy(notice: Notice, row: QueuedRow, outcome: Outcome) -> Verdict | None:
    """Stop what `notice`, a bounce or another DSN to `notice.to`, would tell of one recipient; `row` is of `notice.rows`.
    Nothing can be sent that was not due, nor to somebody else; to the null reverse-path nothing ever is (invariant 3).

    Called: once for each recipient of a notice that is due, before it is written. Thread: a queue worker's, or the session's
    for a success that is known at once. Answer: None; or a Verdict: nothing is told of this recipient, and the reason is in
    the log and in the message's trace. One of 4xx (`tempfail`): not now; the recipient stays in the queue until it can be told.
    Raises: it is told.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.TRANSFORM, is_answer=is_notice_words, on_error="skip", changes="words")
def dsn_compose(notice: Notice, words: NoticeWords) -> NoticeWords | None:
    """Change what a notice says to a person: its subject, its text, further header fields. The report for programs and what
    is returned of the message are not a plugin's to write, so it stays a multipart/report whatever a plugin says.

    Called: once for each notice, after `dsn_policy`. Thread: as there. Answer: None: as it is; else all of the words, in any
    script. Raises: it says what it would have said.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.PROVIDE, is_answer=is_tls_mode)
def tls_policy(next_hop: str, host: str) -> TLSMode | None:
    """How much TLS a host must offer. `next_hop` is the recipients' domain, or "[host]:port" of [routes]; `host` the name of
    its MX, or its address where there is no name.

    Called: before each connection of the "smtp" transport; not for one that is kept from the batch before (30 s).
    Thread: a queue worker's. Answer: None: what [routes] says; else "none", "opportunistic", "require" or "verify", which
    counts where it is stricter than [routes]. Raises: the host is not used now; the attempt is deferred.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.NOTIFY)
def startup() -> None:
    """The server is about to take mail: the store is open, every address is bound.

    Called: once, before the first session and the first delivery. Thread: main. Answer: ignored. Raises: logged.
    """
    raise AssertionError("a specification is never called")


@hook(Kind.NOTIFY)
def shutdown() -> None:
    """The server is ending: sessions and deliveries are done, the store is still open.

    Called: once, after the last other hook. Thread: main. Answer: ignored. Raises: logged.
    """
    raise AssertionError("a specification is never called")
