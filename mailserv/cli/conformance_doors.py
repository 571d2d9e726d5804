"""The rules of docs/plugins-rules.md for what a plugin registers: keywords, verbs, parameters, mechanisms, transports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from mailserv.cli.finding import Finding, raised
from mailserv.cli.plugin_samples import ORDINARY
from mailserv.hooks.extensions import ANSWERS
from mailserv.hooks.implementation import Implementation
from mailserv.hooks.kinds import BUDGET, is_lines
from mailserv.hooks.pop3_extensions import is_answer
from mailserv.mail.extension import LookUp, Parameter, Payload, SessionView, SMTPExtension, StartQueue, Verb
from mailserv.mail.peer import Peer, TLSInfo
from mailserv.mail.pop3_extension import Pop3Extension, Pop3State, Pop3Verb, Pop3View
from mailserv.mail.reply import UNKNOWN_USER, Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import SMTP, Route
from mailserv.mail.sasl import Credentials, Known, Proof, SaslFailed, SaslMechanism, SaslView
from mailserv.mail.value import replace

ARGUMENTS = (
    "",
    "alice@example.org",
    "<alice@example.org> SMTPUTF8",
    "пётр@example.net",
    "@example.org",
    "#queue",
    "4",
    "4294967297 LAST",
    "-1",
    "PLAIN =",
    "A=B+3D C=",
    "x" * 2000,
)
"""What strangers write behind a verb. The server lets no control character through (RFC 5321 §4.1.2)."""
VALUES = (None, "", "0", "7BIT", "SUCCESS,FAILURE", "rfc822;a@b.example", "+4", "4294967297", "ü", "x" * 500)
FIRST_ANSWERS = (b"", b"\0\0", b"\0alice@example.org\0secret", b"\xff" * 300, b"n,,n=alice,r=", b"p=x,,")
_CLIENT = Peer("192.0.2.1", 4321, "smtp", "0123456789ab", helo="client.example.net", esmtp=True)
_USER = Peer("192.0.2.1", 4321, "submission", "0123", "client", True, TLSInfo("TLSv1.3", "X"), "alice@example.org")
VIEWS = tuple(
    SessionView(
        peer=peer,
        hostname="mail.example.org",
        message_size=50_000_000,
        recipients=100,
        can_start_tls=peer.tls is None,
        can_authenticate=not peer.login,
        mechanisms=("PLAIN", "LOGIN"),
        in_transaction=in_transaction,
        is_smtputf8=in_transaction,
        verbs={"HELP": ""},
    )
    for peer in (_CLIENT, _USER)
    for in_transaction in (False, True)
)
POP3_VIEWS = tuple(
    Pop3View(
        peer=replace(peer, service="pop3"),
        hostname="mail.example.org",
        state=state,
        timestamp="<0123.1767225600@mail.example.org>",
        can_start_tls=peer.tls is None,
        can_authenticate=not peer.login,
        mechanisms=("PLAIN",),
        is_utf8=bool(peer.login),
        messages=3,
        octets=1000,
    )
    for peer, state in ((_CLIENT, Pop3State.AUTHORIZATION), (_USER, Pop3State.TRANSACTION))
)
_RESOLUTIONS = (
    Resolution(mailboxes=(("alice@example.org", ORDINARY.forward_path),), is_local=True),
    Resolution(remotes=((ORDINARY.forward_path, Route(SMTP, "example.org")),)),
    Resolution(refusal=UNKNOWN_USER),
)


def check(hooks: Sequence[Implementation]) -> Iterator[Finding]:
    """`hooks`: all of the plugin's. A transport is asked with nothing to deliver: what it would do is real."""
    for extension in _registered(hooks, "register_smtp_extensions"):
        yield from _extension(extension)
    for pop3 in _registered(hooks, "register_pop3_extensions"):
        yield from _pop3_extension(pop3)
    for mechanism in _registered(hooks, "register_sasl_mechanisms"):
        yield _finding(f"the mechanism {mechanism.name} answers to anything", partial(_exchanges, mechanism))
    for name, transport in _registered(hooks, "register_transports"):
        yield _finding(f"the transport {name} can be asked", partial(_transport, transport))


def _registered(hooks: Sequence[Implementation], hook: str) -> Iterator[Any]:
    for each in hooks:
        if each.hook == hook:
            answer, error, *_ = each.attempt({})
            if error is None:
                yield from answer


def _extension(extension: SMTPExtension) -> Iterator[Finding]:
    if extension.keyword:
        yield _finding(f"the keyword {extension.keyword} can always be told", partial(_keyword, extension))
    for verb in extension.verbs:
        yield _finding(f"the verb {verb.name} answers to anything", partial(_verb, verb))
    for command, parameters in (("MAIL", extension.mail_params), ("RCPT", extension.rcpt_params)):
        for parameter in parameters:
            rule = f"the {command} parameter {'/'.join(parameter.claims)} answers to anything"
            yield _finding(rule, partial(_parameter, parameter))


def _pop3_extension(extension: Pop3Extension) -> Iterator[Finding]:
    if extension.keyword:
        yield _finding(f"the POP3 capability {extension.keyword} can always be told", partial(_capability, extension))
    for verb in extension.verbs:
        yield _finding(f"the POP3 verb {verb.name} answers to anything", partial(_pop3_verb, verb))


def _finding(rule: str, problems: Callable[[], Iterator[str]]) -> Finding:
    """The first problem; a call that does not end is one, for nobody would end it: there is no budget for these."""
    found: list[str] = []

    def look() -> None:
        try:
            found.append(next(problems(), ""))
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            found.append(raised(error))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(BUDGET)
    detail = found[0] if found else f"it did not end within {BUDGET:g} s"
    return Finding(rule, not detail, detail)


def _keyword(extension: SMTPExtension) -> Iterator[str]:
    for view in VIEWS:
        text = extension.text(view)
        if text is not None and not (isinstance(text, str) and text.isascii() and text.isprintable()):
            yield f"it told {text!r}, which is no line of EHLO"


def _capability(extension: Pop3Extension) -> Iterator[str]:
    for view in POP3_VIEWS:
        text = extension.text(view)
        if text is not None and not (isinstance(text, str) and text.isascii() and text.isprintable()):
            yield f"it told {text!r}, which is no line of CAPA"


def _pop3_verb(verb: Pop3Verb) -> Iterator[str]:
    for argument in ARGUMENTS:
        for view in POP3_VIEWS:
            answer = verb.handle(view, argument)
            if not is_answer(verb, answer):
                yield f"it answered to {argument[:40]!r} with {answer!r}"


def _verb(verb: Verb) -> Iterator[str]:
    for argument in ARGUMENTS:
        if verb.payload is not None:
            found = verb.payload(argument)
            if found is not None and not (isinstance(found, Payload) and found.octets >= 0):
                yield f"it read {argument[:40]!r} as {found!r}"
            continue
        for view in VIEWS:
            yield from _answer(verb.handle(view, argument), argument)


def _answer(answer: object, argument: str) -> Iterator[str]:
    if not isinstance(answer, ANSWERS):
        yield f"it answered to {argument[:40]!r} with a {type(answer).__name__}"
    elif isinstance(answer, Reply):
        yield from _reply(answer, argument)
    elif isinstance(answer, LookUp):
        for resolution in _RESOLUTIONS:
            yield from _reply(answer.tell(ORDINARY.forward_path, resolution), argument)
    elif isinstance(answer, StartQueue):
        for count in (0, 1, 1000):
            yield from _reply(answer.tell(count), argument)


def _reply(answer: object, argument: str) -> Iterator[str]:
    if not isinstance(answer, Reply) or not 200 <= answer.code <= 599:
        yield f"it told {answer!r} to {argument[:40]!r}"
    elif not is_lines(answer.text):
        yield f"its reply to {argument[:40]!r} is not made of lines"


def _parameter(parameter: Parameter) -> Iterator[str]:
    for value in VALUES:
        for view in VIEWS:
            answer = parameter.check(view, value)
            if answer is not None and not (isinstance(answer, Reply) and answer.code >= 400):
                yield f"it answered to {value!r} with {answer!r}"


def _exchanges(mechanism: SaslMechanism) -> Iterator[str]:
    for first in FIRST_ANSWERS:
        exchange = mechanism.begin(SaslView(_CLIENT, "mail.example.org", lambda name: Known(name, None)))
        try:
            next(exchange)
            exchange.send(first)
            for _ in range(10):  # RFC 4422 §5 has no limit; nobody needs more
                exchange.send(b"")
            yield f"it went on for ever after {first[:20]!r}"
        except ValueError:
            pass  # an answer was malformed
        except StopIteration as end:
            if not isinstance(end.value, Credentials | Proof | SaslFailed):
                yield f"it ended with a {type(end.value).__name__} after {first[:20]!r}"
            elif isinstance(end.value, Proof) and end.value.is_good:
                yield f"it took {first[:20]!r} for a proof"
        finally:
            exchange.close()


def _transport(transport: Any) -> Iterator[str]:
    if list(transport.deliver(iter(()))):
        yield "it made an attempt out of nothing"
