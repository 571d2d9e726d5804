"""One SMTP command line, read where the session stands: syntax, order, and the extensions' parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mailserv.mail import reply as replies
from mailserv.mail.address import Address
from mailserv.mail.extension import Payload, SessionView
from mailserv.mail.reply import Reply
from mailserv.protocol import commands
from mailserv.protocol.commands import Chunk, Event, ExtensionCommand, Mail, RawParameters, Rcpt, Rejected
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
        said = commands.read_core_command(line) if line[:4].upper() in self._commands else None
        if said is None:
            return self._other(line, phase, view)
        command, meaning = said.command, said.meaning
        if said.is_readable and (phase, command) not in NEXT_PHASE:
            return Rejected(OUT_OF_ORDER.get((phase, command), replies.BAD_SEQUENCE), said.verb)
        if isinstance(meaning, tuple):
            read = self._mail if command is Mail else self._rcpt
            meaning = read(*meaning, is_ascii=said.is_ascii, view=view)
        return Rejected(meaning, said.verb) if isinstance(meaning, Reply) else meaning

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

    def _mail(self, path: Address, raw: RawParameters, *, is_ascii: bool, view: View) -> Mail | Reply:
        parameters = self._check(self._extensions.check_mail, raw, view)
        if not isinstance(parameters, dict):
            return parameters
        if not is_ascii and "SMTPUTF8" not in parameters:
            return replies.NEED_SMTPUTF8
        return Mail(path, parameters)

    def _rcpt(self, path: Address, raw: RawParameters, *, is_ascii: bool, view: View) -> Rcpt | Reply:
        if not is_ascii and not self.is_smtputf8:
            return replies.NEED_SMTPUTF8
        parameters = self._check(self._extensions.check_rcpt, raw, view)
        return Rcpt(path, parameters) if isinstance(parameters, dict) else parameters

    def _check(
        self,
        check: Callable[[RawParameters, SessionView], dict[str, str] | Reply],
        raw: RawParameters,
        view: View,
    ) -> dict[str, str] | Reply:
        if not raw:
            return {}
        if not self.is_esmtp:
            return replies.UNKNOWN_PARAMETER  # after HELO there are no extensions (RFC 5321 §4.1.1.1)
        return check(raw, view())


def _chunk(verb: str, payload: Payload | None, phase: Phase) -> Event:
    """Octets follow the line, wanted or not. Without their number nothing that follows can be told from content."""
    if payload is None:
        return Rejected(replies.SYNTAX, verb, close=True)
    refusal = None if (phase, Chunk) in NEXT_PHASE else OUT_OF_ORDER.get((phase, Chunk), replies.BAD_SEQUENCE)
    return Chunk(verb, payload.octets, payload.is_last, refusal)
