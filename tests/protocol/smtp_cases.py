"""What the tests of the SMTP core share: a view, a core in each phase, one line for each command."""

from __future__ import annotations

from typing import Any

from mailserv.mail import reply
from mailserv.mail.extension import Parameter, SessionView, SMTPExtension, Verb
from mailserv.mail.peer import Peer, TLSInfo
from mailserv.mail.reply import Reply
from mailserv.protocol.commands import Event
from mailserv.protocol.extensions import ExtensionTable
from mailserv.protocol.smtp_server import Phase, SmtpServer, WireLimits

HELLO = Reply(250, "", "mail.example.org")
CONTENT = Reply(354, "", "Go on")


def make_view(service: str = "smtp", tls: bool = False, **changes: Any) -> SessionView:
    fields = {
        "peer": Peer("192.0.2.1", 1, service, "s1", tls=TLSInfo("TLSv1.3", "x") if tls else None),
        "hostname": "mail.example.org",
        "message_size": 50_000_000,
        "recipients": 100,
        "can_start_tls": False,
        "can_authenticate": False,
        "mechanisms": (),
        "in_transaction": False,
        "is_smtputf8": False,
        "verbs": (),
    }
    return SessionView(**{**fields, **changes})


def _takes_all(view: SessionView, value: str | None) -> Reply | None:
    return None


def _say(view: SessionView, argument: str) -> Reply:
    return reply.OK


EXTENSIONS = (
    SMTPExtension("SIZE", "", mail_params=(Parameter("SIZE", _takes_all, growth=26),)),
    SMTPExtension("SMTPUTF8", "", mail_params=(Parameter("SMTPUTF8", _takes_all, growth=10),)),
    SMTPExtension("DSN", "", rcpt_params=(Parameter("NOTIFY", _takes_all, growth=28),)),
    SMTPExtension("", "", verbs=(Verb("XANY", _say),)),
    SMTPExtension("AUTH", "", verbs=(Verb("AUTH", _say, needs_greeting=True, in_transaction=False),)),
    SMTPExtension("", "", verbs=(Verb("XSUB", _say),), services=frozenset({"submission"})),
)

LEADING_TO: dict[Phase, list[tuple[bytes, Reply]]] = {Phase.CONNECTED: []}
LEADING_TO[Phase.GREETED] = [(b"EHLO client.example.net", HELLO)]
LEADING_TO[Phase.HAS_SENDER] = [*LEADING_TO[Phase.GREETED], (b"MAIL FROM:<smith@example.net>", reply.SENDER_OK)]
LEADING_TO[Phase.HAS_RECIPIENT] = [
    *LEADING_TO[Phase.HAS_SENDER],
    (b"RCPT TO:<alice@example.org>", reply.RECIPIENT_OK),
]
LEADING_TO[Phase.CONTENT] = [*LEADING_TO[Phase.HAS_RECIPIENT], (b"DATA", CONTENT)]
LEADING_TO[Phase.CLOSED] = [(b"QUIT", reply.CLOSING)]


def fresh(**limits: int) -> SmtpServer:
    return SmtpServer(extensions=ExtensionTable(EXTENSIONS), limits=WireLimits(**limits))


def say(core: SmtpServer, line: bytes, view: SessionView | None = None) -> Event | None:
    """Feed one line, and take the event."""
    core.receive(line + b"\r\n")
    return core.next_event(lambda: view or make_view())


def core_in(phase: Phase) -> SmtpServer:
    """A core that has come to this phase by commands."""
    core = fresh()
    if phase is Phase.AUTH:
        core = core_in(Phase.GREETED)
        say(core, b"AUTH LOGIN")
        core.answer_auth(b"Username:")
    for line, answer in LEADING_TO.get(phase, []):
        assert say(core, line) is not None
        core.answer(answer)
    core.output()
    assert core.phase is phase
    return core
