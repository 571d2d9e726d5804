"""HELP (RFC 5321 §4.1.1.8): which commands there are."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail.extension import SessionView, SMTPExtension, Verb, VerbAnswer
from mailserv.mail.plugin import Services
from mailserv.mail.reply import Reply

CORE = ("EHLO", "HELO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT")


def show(view: SessionView, argument: str) -> VerbAnswer:
    """214 with the verbs of this session; an argument changes nothing, as it may (§4.1.1.8)."""
    return Reply(214, "2.0.0", "Commands: " + " ".join((*CORE, *view.verbs)))


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        return [SMTPExtension("HELP", "", verbs=(Verb("HELP", show, help="HELP: this list"),))]
