"""One SMTP command line, read where the session stands: syntax, order, and the extensions' parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from mailserv.mail import reply as replies
from mailserv.mail.extension import Payload, SessionView
from mailserv.mail.reply import Reply
from mailserv.protocol import commands
from mailserv.protocol.commands import Chunk, Event, ExtensionCommand, Mail, Rcpt, Rejected, WithPath
from mailserv.protocol.extensions import ExtensionTable
from mailserv.protocol.smtp_phases import NEXT_PHASE, OUT_OF_ORDER, TRANSACTION, Phase

View = Callable[[], SessionView]


class CommandReader:
    """`is_esmtp`: the last greeting was EHLO. `is_smtputf8`: the transaction is internationalised. One thread."""

    __slots__ = ("_commands", "_extensions", "is_esmtp", "is_smtputf8")

    def __init__(self, extensions: ExtensionTable, known: Mapping[bytes, type[Event]]) -> None:
        """`known`: the verbs of the core, SMTP's or LMTP's."""
        self._commands = known
        self._extensions = extensions
        self.is_esmtp = False
        self.is_smtputf8 = False

    def read(self, line: bytes, phase: Phase, view: View) -> Event:
        """The event for a line without its CRLF. `view` is called only when an extension is concerned."""
        event = read_in(phase, line) if line[:4].upper() in self._commands else None
        if event is None:
            return self._other(line, phase, view)
        return self._checked(event, view) if type(event) is WithPath else event

    def _other(self, line: bytes, phase: Phase, view: View) -> Event:
        """A verb that is not the core's: an extension's, a browser's, or nobody's."""
        word, _, rest = line.rstrip(b" \t").partition(b" ")
        word = word.upper()
        if word in commands.HTTP_VERBS:
            return Rejected(replies.NO_HTTP, word.decode(), close=True)
        name = word.decode("ascii", "replace")
        if not self._extensions.knows_verb(name):
            newline = b"\n" in word or b"\r" in word
            return Rejected(replies.BARE_NEWLINE_IN_COMMAND if newline else replies.UNRECOGNIZED)
        verb = self._extensions.verb(name, view().peer.service)
        if verb is None:
            return Rejected(replies.NOT_IMPLEMENTED, name)
        text = commands.readable(rest)
        if verb.payload is not None:
            return _chunk(name, None if isinstance(text, Reply) else verb.payload(text), phase)
        if isinstance(text, Reply):
            return Rejected(text, name)
        if verb.needs_greeting and phase is Phase.CONNECTED:
            return Rejected(replies.NEED_HELO, name)
        if not verb.in_transaction and phase in TRANSACTION:
            return Rejected(replies.BAD_SEQUENCE, name)
        if not text.isascii() and not self._declares_utf8(text, view):
            return Rejected(replies.NEED_SMTPUTF8, name)
        return ExtensionCommand(verb, text)

    def _declares_utf8(self, text: str, view: View) -> bool:
        """RFC 6531 §3.7.4.2: VRFY and EXPN may end in " SMTPUTF8" where that is offered."""
        if not text.upper().endswith(" SMTPUTF8"):
            return False
        return self.is_esmtp and self._extensions.mail_param("SMTPUTF8", view()) is not None

    def _checked(self, said: WithPath, view: View) -> Mail | Rcpt | Rejected:
        checked = {} if said.is_ascii and not said.parameters else self._parameters(said, view)
        return Rejected(checked, said.verb) if isinstance(checked, Reply) else said.command(said.path, checked)

    def _parameters(self, said: WithPath, view: View) -> dict[str, str] | Reply:
        is_mail = said.command is Mail
        if not (is_mail or said.is_ascii or self.is_smtputf8):
            return replies.NEED_SMTPUTF8
        if said.parameters and not self.is_esmtp:
            return replies.UNKNOWN_PARAMETER  # after HELO there are no extensions (RFC 5321 §4.1.1.1)
        check = self._extensions.check_mail if is_mail else self._extensions.check_rcpt
        parameters = check(said.parameters, view())
        if is_mail and not said.is_ascii and not isinstance(parameters, Reply) and "SMTPUTF8" not in parameters:
            return replies.NEED_SMTPUTF8
        return parameters


@lru_cache(maxsize=1024)  # clients say the same again and again, and most mail is for the same few
def read_in(phase: Phase, line: bytes) -> Event | WithPath | None:
    """What a line is where the session stands in this phase; None when its verb is not the core's after all.

    Only for lines that begin as one of its verbs: what else clients say may be secret, and is not to be kept.
    """
    return commands.read_core_command(line, lambda command: _out_of_order(phase, command))


def _out_of_order(phase: Phase, command: type[Event]) -> Reply | None:
    return None if (phase, command) in NEXT_PHASE else OUT_OF_ORDER.get((phase, command), replies.BAD_SEQUENCE)


def _chunk(verb: str, payload: Payload | None, phase: Phase) -> Event:
    """Octets follow the line, wanted or not. Without their number nothing that follows can be told from content."""
    if payload is None:
        return Rejected(replies.SYNTAX, verb, close=True)
    return Chunk(verb, payload.octets, payload.is_last, _out_of_order(phase, Chunk))
