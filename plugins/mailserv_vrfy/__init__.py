"""VRFY (RFC 5321 §3.5): the truth to who has logged in, and 252 to all others, which tells nobody who lives here."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from mailserv import hookimpl
from mailserv.mail import reply
from mailserv.mail.address import Address
from mailserv.mail.asked_address import Asked, read_asked
from mailserv.mail.extension import LookUp, SessionView, SMTPExtension, Verb, VerbAnswer
from mailserv.mail.plugin import Services
from mailserv.mail.reply import Reply
from mailserv.mail.resolution import Resolution


def verify(view: SessionView, argument: str) -> VerbAnswer:
    if not argument:
        return reply.SYNTAX
    if not view.peer.login:
        return reply.CANNOT_VERIFY
    asked = read_asked(argument)
    return LookUp(asked.address, partial(tell, asked)) if asked else reply.BAD_FORWARD_PATH


def tell(asked: Asked, address: Address, found: Resolution) -> Reply:
    """RFC 5321 §3.5.1: the reply to success has the mailbox."""
    if found.refusal is not None:
        return found.refusal
    if not found.is_local:
        return reply.CANNOT_VERIFY  # what another server knows
    reached = found.mailboxes[0][1] if len(found.mailboxes) == 1 and not found.remotes else address
    return asked.tell(250, "2.1.5", [f"<{reached}>"])


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        verb = Verb("VRFY", verify, help="VRFY address: whether it is one of ours, for those who have logged in")
        return [SMTPExtension("VRFY", "", verbs=(verb,))]
