"""HELP (RFC 5321 §4.1.1.8): which commands there are."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail.extension import SessionView, SMTPExtension, Verb, VerbAnswer
from mailserv.mail.peer import LMTP
from mailserv.mail.plugin import Services
from mailserv.mail.reply import Reply

GREETINGS = {
    "EHLO": "EHLO domain: who you are; the answer lists the extensions",
    "HELO": "HELO domain: the same without extensions",
}
LMTP_GREETINGS = {"LHLO": "LHLO domain: who you are; the answer lists the extensions (RFC 2033)"}
CORE = {
    "MAIL": "MAIL FROM:<reverse-path> [parameters]: begins a message",
    "RCPT": "RCPT TO:<forward-path> [parameters]: one more recipient",
    "DATA": "DATA: the content follows, up to a dot on a line of its own",
    "RSET": "RSET: ends the message that was begun",
    "NOOP": "NOOP: nothing",
    "QUIT": "QUIT: ends the session",
}


def show(view: SessionView, argument: str) -> VerbAnswer:
    """214 with the verbs of this session, or with what is to be said of the one that is named (§4.1.1.8)."""
    verbs = {**(LMTP_GREETINGS if view.peer.service == LMTP else GREETINGS), **CORE, **view.verbs}
    said = verbs.get(argument.strip().upper())
    return Reply(214, "2.0.0", said or "Commands: " + " ".join(verbs))


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        return [
            SMTPExtension("HELP", "", verbs=(Verb("HELP", show, help="HELP [command]: the commands, or one of them"),))
        ]
