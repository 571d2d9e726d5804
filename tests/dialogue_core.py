"""The server's end of a dialogue without a server: the protocol cores with a small policy in memory."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from dialogue import Dialogue, DialogueError

from mailserv.config import read_section
from mailserv.hooks.host import SHIPPED_EXTENSIONS
from mailserv.mail import reply
from mailserv.mail.address import Address
from mailserv.mail.extension import LookUp, SessionView, SMTPExtension, StartAuth, StartQueue, StartTLS
from mailserv.mail.peer import Peer, TLSInfo
from mailserv.mail.plugin import Services
from mailserv.mail.pop3_extension import Pop3Answer, Pop3State, Pop3View, UseUTF8
from mailserv.mail.reply import Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route
from mailserv.mail.sasl import Credentials, Known, SaslFailed, SaslView
from mailserv.mail.surrogate import in_ascii
from mailserv.mail.value import replace
from mailserv.protocol import commands
from mailserv.protocol import pop3_commands as pop3
from mailserv.protocol.extensions import ExtensionTable
from mailserv.protocol.pop3_extensions import Pop3ExtensionTable
from mailserv.protocol.pop3_server import Phase as Pop3Phase
from mailserv.protocol.pop3_server import Pop3Server
from mailserv.protocol.sasl import BUILT_IN, Challenge, SaslExchange, Step
from mailserv.protocol.smtp_server import Phase, SmtpServer, WireLimits

PLUGINS = str(Path(__file__).parent.parent / "plugins")


SHIPPED: Mapping[str, Mapping[str, Any]] = {name: {} for name in SHIPPED_EXTENSIONS}
"""The plugins that are on by themselves, with their settings."""


def brought(hook: str, plugins: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
    """What plugins bring, in their order."""
    if PLUGINS not in sys.path:
        sys.path.append(PLUGINS)
    for name, section in plugins.items():
        plugin = importlib.import_module(f"mailserv_{name}").Plugin
        if hasattr(plugin, hook):
            settings = read_section(plugin.Settings, section, name) if hasattr(plugin, "Settings") else None
            made = plugin(settings, Services(name, "mail.example.org", lambda: 0.0, None))
            yield from getattr(made, hook)()


@cache
def shipped_extensions() -> tuple[SMTPExtension, ...]:
    return tuple(brought("register_smtp_extensions", SHIPPED))


@cache
def shipped_table() -> ExtensionTable:
    return ExtensionTable(shipped_extensions())


def table_for(dialogue: Dialogue) -> ExtensionTable:
    if not dialogue.plugins:
        return shipped_table()
    return ExtensionTable([*shipped_extensions(), *brought("register_smtp_extensions", dialogue.plugins)])


@cache
def shipped_pop3() -> Pop3ExtensionTable:
    return Pop3ExtensionTable(tuple(brought("register_pop3_extensions", SHIPPED)))


def core_driver(dialogue: Dialogue, chunk: int = 0) -> SmtpDriver | Pop3Driver:
    """`chunk`: how many octets the core gets at once; 0 for all that the client sends in one write."""
    if dialogue.settings["service"].startswith("pop3"):
        return Pop3Driver(dialogue, chunk)
    return SmtpDriver(dialogue, chunk)


class Lines:
    """What the server said, line by line."""

    def __init__(self) -> None:
        self.unread = b""

    def add(self, data: bytes) -> None:
        self.unread += data

    def take(self) -> bytes:
        data, self.unread = self.unread, b""
        return data

    def next(self, is_closed: bool) -> bytes | None:
        line, end, rest = self.unread.partition(b"\r\n")
        if not end:
            if is_closed:
                return None
            raise DialogueError("the server said nothing")
        self.unread = rest
        return line


def pieces(data: bytes, chunk: int) -> Sequence[bytes]:
    return [data[i : i + chunk] for i in range(0, len(data), chunk)] if chunk else [data]


PEER = Peer("192.0.2.1", 40000, "pop3", "s1")


def start(exchange: SaslExchange, peer: Peer, name: str, initial: str | None) -> Step:
    """AUTH with a mechanism that we have ourselves."""
    for mechanism in BUILT_IN:
        if mechanism.name == name and peer.service in mechanism.services:
            return exchange.start(mechanism, SaslView(peer, "mail.example.org", lambda _: Known("", None)), initial)
    return SaslFailed(reply.UNKNOWN_MECHANISM)


class SmtpDriver:
    """Accepts mail for its mailboxes, relays for who has logged in, keeps the messages in `accepted`."""

    def __init__(self, dialogue: Dialogue, chunk: int = 0) -> None:
        settings = dialogue.settings
        self.accepted: list[tuple[str, list[str], bytes]] = []
        self._settings = settings
        self._chunk = chunk
        self._mailboxes = {address.casefold() for address in settings["mailboxes"].split()}
        self._domains = {address.partition("@")[2] for address in self._mailboxes}
        self._is_lmtp = settings["service"] == "lmtp"
        self._table = table_for(dialogue)
        self._core = SmtpServer(extensions=self._table, limits=WireLimits(), is_lmtp=self._is_lmtp)
        self._peer = Peer("192.0.2.1", 40000, settings["service"], "s1")
        self._reverse_path = ""
        self._recipients: list[str] = []
        self._content = b""
        self._is_smtputf8 = False
        self._body = ""
        self._sasl: SaslExchange | None = None
        self.said = Lines()
        self._core.greet(Reply(220, "", f"{settings['hostname']} {'LMTP' if self._is_lmtp else 'ESMTP'}"))
        self.said.add(self._core.output())

    def send(self, data: bytes) -> None:
        for piece in pieces(data, self._chunk):
            self._core.receive(piece)
            while (event := self._core.next_event(self.view)) is not None:
                self._handle(event)
            self.said.add(self._core.output())

    def read_line(self) -> bytes | None:
        return self.said.next(self.is_closed)

    @property
    def is_closed(self) -> bool:
        return self._core.phase is Phase.CLOSED

    def start_tls(self) -> None:
        self._core.started_tls()
        self._peer = replace(self._peer, tls=TLSInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384"), helo="", esmtp=False)
        self._reset()

    def view(self) -> SessionView:
        return SessionView(
            peer=self._peer,
            hostname=self._settings["hostname"],
            message_size=int(self._settings["message_size"]),
            recipients=100,
            can_start_tls=self._settings["tls"] == "yes" and self._peer.tls is None,
            can_authenticate=self._peer.service.startswith("sub") and not self._peer.login,
            mechanisms=("PLAIN", "LOGIN"),
            in_transaction=bool(self._recipients),
            is_smtputf8=self._is_smtputf8,
            verbs=self._table.verbs(self._peer.service),
        )

    def _handle(self, event: commands.Event) -> None:
        match event:
            case commands.ContentBlock(data=data):
                self._content += data
            case commands.AuthLine(data=data):
                assert self._sasl is not None
                self._authenticate(self._sasl.step(data))
            case commands.ExtensionCommand():
                self._extension(event)
            case commands.Rejected(reply=answer):
                self._core.answer(answer)
            case commands.ContentRefused(reply=answer):
                self._core.answer(answer, self._copies())
            case commands.ContentEnd():
                copies = self._copies()
                self._core.answer(self._end_of_data(event.has_bare), copies)
            case commands.Noop():
                self._core.answer(reply.OK)
            case commands.Quit():
                self._core.answer(reply.CLOSING)
            case commands.Data():
                self._core.answer(reply.NEED_BDAT if self._body == "BINARYMIME" else reply.START_CONTENT)
            case commands.Chunk():
                pass
            case commands.ChunkEnd(octets=octets, has_bare=has_bare):
                received = Reply(250, "2.0.0", f"{octets} octets received")
                self._core.answer(self._bare_refusal() if has_bare else received)
            case _:
                self._core.answer(self._transaction(event))

    def _transaction(self, event: commands.Event) -> Reply:
        match event:
            case commands.Helo(domain=domain) | commands.Ehlo(domain=domain):
                self._reset()
                self._peer = replace(self._peer, helo=domain, esmtp=isinstance(event, commands.Ehlo))
                extensions = self._table.ehlo_lines(self.view()) if self._peer.esmtp else []
                return Reply(250, "", "\n".join([self._settings["hostname"], *extensions]))
            case commands.Mail(reverse_path=path, parameters=parameters):
                if self._peer.service.startswith("sub") and not self._peer.login:
                    return reply.NEED_AUTH
                self._reverse_path, self._is_smtputf8 = str(path), "SMTPUTF8" in parameters
                self._body = parameters.get("BODY", "").upper()
                return reply.SENDER_OK
            case commands.Rcpt(forward_path=path):
                return self._rcpt(path.key.rstrip("@"), path.domain)
            case _:
                self._reset()
                return reply.OK

    def _copies(self) -> int:
        return len(self._recipients) if self._is_lmtp else 1

    def _rcpt(self, key: str, domain: str) -> Reply:
        if domain and domain not in self._domains and not self._peer.login:
            return reply.RELAY_DENIED
        if domain in self._domains and key not in self._mailboxes and not key.startswith("postmaster@"):
            return reply.UNKNOWN_USER
        self._recipients.append(key)
        return reply.RECIPIENT_OK

    def _end_of_data(self, has_bare: bool) -> Reply:
        if has_bare:
            refusal = self._bare_refusal()
            self._reset()
            return refusal
        if len(self._content) > int(self._settings["message_size"]):
            self._reset()
            return reply.MESSAGE_TOO_BIG
        self.accepted.append((self._reverse_path, self._recipients, self._content))
        self._reset()
        return Reply(250, "2.0.0", "queued as 1")

    def _bare_refusal(self) -> Reply:
        return reply.BINARY_REFUSED if self._body == "BINARYMIME" else reply.BARE_NEWLINE

    def _extension(self, event: commands.ExtensionCommand) -> None:
        answer = event.verb.handle(self.view(), event.argument)
        match answer:
            case Reply():
                self._core.answer(answer)
            case LookUp(address=address, tell=tell):
                self._core.answer(tell(*self._look_up(address)))
            case StartQueue(tell=tell):
                self._core.answer(tell(0))
            case StartTLS(reply=ready):
                if not self._core.has_input:
                    self._core.answer(ready)
                else:
                    self._core.close(reply.EARLY_DATA)
            case StartAuth(mechanism=mechanism, initial=initial):
                self._sasl = SaslExchange()
                self._authenticate(start(self._sasl, self._peer, mechanism, initial))

    def _look_up(self, address: Address) -> tuple[Address, Resolution]:
        domain = address.domain or self._settings["mailboxes"].split()[0].partition("@")[2]
        full = Address(address.local_part, domain)
        if domain not in self._domains:
            return full, Resolution(remotes=((full, Route("smtp", domain)),))
        if full.key not in self._mailboxes:
            return full, Resolution(is_local=True, refusal=reply.UNKNOWN_USER)
        return full, Resolution(mailboxes=((full.key, full),), is_local=True)

    def _authenticate(self, step: Step) -> None:
        match step:
            case Challenge(data=data):
                self._core.answer_auth(data)
            case SaslFailed(reply=failure):
                self._core.answer(failure)
            case Credentials(authcid=name, password=password):
                known = name in self._mailboxes and password == self._settings["password"]
                self._peer = replace(self._peer, login=name if known else "")
                self._core.answer(reply.AUTHENTICATED if known else reply.AUTH_FAILED)

    def _reset(self) -> None:
        self._reverse_path, self._recipients, self._content, self._is_smtputf8 = "", [], b"", False
        self._body = ""


class Pop3Driver:
    """A maildrop in memory for the first mailbox; the others' are empty."""

    def __init__(self, dialogue: Dialogue, chunk: int = 0) -> None:
        self._settings = dialogue.settings
        self._messages = dialogue.messages
        self._chunk = chunk
        self._mailboxes = dialogue.settings["mailboxes"].split()
        self._core = Pop3Server(shipped_pop3())
        self._is_utf8 = False
        self._user = ""
        self._deleted: set[int] = set()
        self._is_tls = False
        self._sasl: SaslExchange | None = None
        self.said = Lines()
        self._core.greet("POP3 server ready")
        self.said.add(self._core.output())
        self._answers: dict[type[pop3.Event], Callable[[Any], None]] = {
            pop3.User: self._on_user,
            pop3.Pass: lambda event: self._log_in(self._user, event.password),
            pop3.Auth: self._on_auth,
            pop3.AuthLine: lambda event: self._authenticate(self._sasl_step(event.data)),
            pop3.Stls: self._on_stls,
            pop3.Capa: lambda _: self._core.answer_list(
                "Capability list follows", [*self._capabilities(), *shipped_pop3().capabilities(self._view())]
            ),
            pop3.Stat: lambda _: self._core.answer(True, f"{len(self._left())} {self._octets()}"),
            pop3.List: lambda event: self._table(event.number, lambda n: str(len(self._shown(n)))),
            pop3.Uidl: lambda event: self._table(event.number, lambda n: f"uid{n}"),
            pop3.Retr: lambda event: self._send(event.number, None),
            pop3.Top: lambda event: self._send(event.number, event.lines),
            pop3.Dele: self._on_dele,
            pop3.Noop: lambda _: self._core.answer(True, ""),
            pop3.Rset: self._on_rset,
            pop3.Quit: lambda _: self._core.answer(True, "bye"),
            pop3.ExtensionCommand: self._on_extension,
            pop3.Rejected: lambda event: self._core.answer(False, event.text),
        }

    def send(self, data: bytes) -> None:
        for piece in pieces(data, self._chunk):
            self._core.receive(piece)
            while (event := self._core.next_event()) is not None:
                self._answers[type(event)](event)
            self.said.add(self._core.output())

    def read_line(self) -> bytes | None:
        return self.said.next(self.is_closed)

    @property
    def is_closed(self) -> bool:
        return self._core.phase is Pop3Phase.CLOSED

    def start_tls(self) -> None:
        self._core.started_tls()
        self._is_tls, self._is_utf8 = True, False

    def _on_user(self, event: pop3.User) -> None:
        self._user = event.name
        self._core.answer(True, "send PASS")  # known or not: nobody learns who lives here

    def _log_in(self, name: str, password: str) -> None:
        known = name in self._mailboxes and password == self._settings["password"]
        if known and name != self._mailboxes[0]:
            self._messages = ()
        self._core.answer(known, f"{len(self._messages)} messages" if known else "[AUTH] no such login")

    def _on_auth(self, event: pop3.Auth) -> None:
        self._sasl = SaslExchange()
        self._authenticate(start(self._sasl, PEER, event.mechanism, event.initial))

    def _sasl_step(self, data: bytes | None) -> Step:
        assert self._sasl is not None
        return self._sasl.step(data)

    def _authenticate(self, step: Step) -> None:
        match step:
            case Challenge(data=data):
                self._core.answer_auth(data)
            case SaslFailed(reply=failure):
                self._core.answer(False, failure.text)
            case Credentials(authcid=name, password=password):
                self._log_in(name, password)

    def _on_stls(self, _: pop3.Stls) -> None:
        if self._core.has_input:
            self._core.close("bytes before the handshake")
        elif self._settings["tls"] == "yes" and not self._is_tls:
            self._core.answer(True, "begin TLS")
        else:
            self._core.answer(False, "not now")

    def _capabilities(self) -> list[str]:
        lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "IMPLEMENTATION mailserv"]
        can_start = self._settings["tls"] == "yes" and not self._is_tls
        can_start = can_start and self._core.state is Pop3State.AUTHORIZATION
        return [*lines, "USER", "SASL PLAIN", *(["STLS"] if can_start else [])]

    def _view(self) -> Pop3View:
        peer = replace(PEER, tls=TLSInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384") if self._is_tls else None)
        return Pop3View(peer, "mail.example.org", self._core.state, "", False, True, ("PLAIN",), self._is_utf8, 0, 0)

    def _on_extension(self, event: pop3.ExtensionCommand) -> None:
        match event.verb.handle(self._view(), event.argument):
            case UseUTF8(text=text):
                self._is_utf8 = True
                self._core.answer(True, text)
            case Pop3Answer(is_positive=True, text=text, lines=lines) if lines is not None:
                self._core.answer_list(text, lines)
            case Pop3Answer(is_positive=good, text=text):
                self._core.answer(good, text)

    def _shown(self, number: int) -> bytes:
        """The message, or its surrogate for who has not said UTF8."""
        header, _, rest = self._messages[number - 1].partition(b"\r\n\r\n")
        if self._is_utf8 or header.isascii():
            return self._messages[number - 1]
        return in_ascii(header) + b"\r\n" + rest

    def _left(self) -> list[int]:
        return [n for n in range(1, len(self._messages) + 1) if n not in self._deleted]

    def _octets(self) -> int:
        return sum(len(self._shown(n)) for n in self._left())

    def _table(self, number: int | None, show: Callable[[int], str]) -> None:
        if number is None:
            self._core.answer_list(f"{len(self._left())} messages", [f"{n} {show(n)}" for n in self._left()])
        elif number in self._left():
            self._core.answer(True, f"{number} {show(number)}")
        else:
            self._core.answer(False, "no such message")

    def _send(self, number: int, lines: int | None) -> None:
        if number not in self._left():
            self._core.answer(False, "no such message")
            return
        content = self._shown(number)
        if lines is not None:
            header, _, body = content.partition(b"\r\n\r\n")
            content = header + b"\r\n\r\n" + b"".join(islice(body.splitlines(keepends=True), lines))
        for block in self._core.answer_lines(f"{len(content)} octets", [content]):
            self.said.add(block)

    def _on_dele(self, event: pop3.Dele) -> None:
        exists = event.number in self._left()
        if exists:
            self._deleted.add(event.number)
        self._core.answer(exists, f"message {event.number} deleted" if exists else "no such message")

    def _on_rset(self, _: pop3.Rset) -> None:
        self._deleted.clear()
        self._core.answer(True, f"{len(self._messages)} messages")
