"""The server's side of a POP3 session (RFC 1939) without a socket: bytes in, events out; answers in, bytes out.

The core reads and orders; what is in the maildrop only the session knows. Each event is answered once, by `answer`,
`answer_list`, `answer_message`, `answer_lines` or `answer_auth`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from enum import Enum

from mailserv.errors import ProtocolError
from mailserv.mail.dot_stuffing import stuff, stuff_whole
from mailserv.mail.pop3_extension import Pop3State, Pop3Verb
from mailserv.protocol import pop3_commands as commands
from mailserv.protocol.commands import HTTP_VERBS
from mailserv.protocol.lines import LineFault, LineReader
from mailserv.protocol.pop3_commands import (
    Auth,
    AuthLine,
    Capa,
    Dele,
    Event,
    ExtensionCommand,
    ExtensionLogin,
    List,
    Noop,
    Pass,
    Quit,
    Rejected,
    Retr,
    Rset,
    Stat,
    Stls,
    Top,
    Uidl,
    User,
)
from mailserv.protocol.pop3_extensions import NO_EXTENSIONS, Pop3ExtensionTable

COMMAND_LINE = 255  # octets with CRLF, RFC 2449 §4
AUTH_LINE = 12288  # octets with CRLF of one base64 line; RFC 5034 names no limit, this is SMTP's (RFC 4954 §4)
SEND_SIZE = 64 * 1024  # octets of answers that are worth a write of their own


class Phase(Enum):
    """The states of RFC 1939 §3; UPDATE is what the session does before it answers a Quit that `updates`."""

    AUTHORIZATION = "authorization"
    HAS_USER = "has user"  # AUTHORIZATION, between USER and PASS
    AUTH = "auth"  # AUTHORIZATION, in an AUTH exchange (RFC 5034)
    TRANSACTION = "transaction"
    CLOSED = "closed"

    __hash__ = object.__hash__  # by identity, as equality is: Enum's own costs a Python call on every look-up


_AUTHORIZATION, _HAS_USER, _AUTH, _TRANSACTION, _CLOSED = Phase

NEXT_PHASE: dict[tuple[Phase, type[Event]], tuple[Phase, Phase]] = {
    # The phase after +OK and the phase after -ERR. An absent pair is -ERR and changes nothing.
    (_AUTHORIZATION, User): (_HAS_USER, _AUTHORIZATION),
    (_AUTHORIZATION, Auth): (_TRANSACTION, _AUTHORIZATION),
    (_AUTHORIZATION, Stls): (_AUTHORIZATION, _AUTHORIZATION),
    (_AUTHORIZATION, Capa): (_AUTHORIZATION, _AUTHORIZATION),
    (_AUTHORIZATION, ExtensionCommand): (_AUTHORIZATION, _AUTHORIZATION),
    (_AUTHORIZATION, ExtensionLogin): (_TRANSACTION, _AUTHORIZATION),
    (_AUTHORIZATION, Quit): (_CLOSED, _CLOSED),
    (_HAS_USER, User): (_HAS_USER, _AUTHORIZATION),
    (_HAS_USER, Pass): (_TRANSACTION, _AUTHORIZATION),  # RFC 1939 §7: after a refused PASS comes USER again
    (_HAS_USER, Auth): (_TRANSACTION, _AUTHORIZATION),
    (_HAS_USER, Stls): (_AUTHORIZATION, _HAS_USER),
    (_HAS_USER, Capa): (_HAS_USER, _HAS_USER),
    (_HAS_USER, ExtensionCommand): (_HAS_USER, _HAS_USER),
    (_HAS_USER, ExtensionLogin): (_TRANSACTION, _AUTHORIZATION),
    (_HAS_USER, Quit): (_CLOSED, _CLOSED),
    (_AUTH, AuthLine): (_TRANSACTION, _AUTHORIZATION),
    (_AUTH, Rejected): (_AUTHORIZATION, _AUTHORIZATION),  # an overlong line ends the exchange
    (_TRANSACTION, Capa): (_TRANSACTION, _TRANSACTION),
    (_TRANSACTION, Stat): (_TRANSACTION, _TRANSACTION),
    (_TRANSACTION, List): (_TRANSACTION, _TRANSACTION),
    (_TRANSACTION, Uidl): (_TRANSACTION, _TRANSACTION),
    (_TRANSACTION, Retr): (_TRANSACTION, _TRANSACTION),
    (_TRANSACTION, Dele): (_TRANSACTION, _TRANSACTION),
    (_TRANSACTION, Top): (_TRANSACTION, _TRANSACTION),
    (_TRANSACTION, Noop): (_TRANSACTION, _TRANSACTION),
    (_TRANSACTION, Rset): (_TRANSACTION, _TRANSACTION),
    (_TRANSACTION, ExtensionCommand): (_TRANSACTION, _TRANSACTION),
    (_TRANSACTION, Quit): (_CLOSED, _CLOSED),
}


class Pop3Server:
    """One session. One thread. Raises RuntimeError where the caller breaks the rule: each event is answered once."""

    __slots__ = ("_extensions", "_lines", "_out", "_pending", "_phase", "_service", "_size")

    def __init__(self, extensions: Pop3ExtensionTable = NO_EXTENSIONS, service: str = "pop3") -> None:
        self._extensions = extensions
        self._service = service
        self._lines = LineReader()
        self._out: list[bytes] = []
        self._size = 0  # octets in _out
        self._phase = Phase.AUTHORIZATION
        self._pending: Event | None = None

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def state(self) -> Pop3State:
        """As extensions know it."""
        return Pop3State.TRANSACTION if self._phase is Phase.TRANSACTION else Pop3State.AUTHORIZATION

    @property
    def has_input(self) -> bool:
        """Whether bytes are here that no event has told of: before a handshake they are an error (invariant 6)."""
        return bool(self._lines)

    @property
    def has_much(self) -> bool:
        """Whether `output` is better sent now than gathered further: a burst of commands costs no memory."""
        return self._size >= SEND_SIZE

    def receive(self, data: bytes) -> None:
        """Take what was read from the client. After CLOSED it is thrown away."""
        if self._phase is not Phase.CLOSED:
            self._lines.feed(data)

    def next_event(self) -> Event | None:
        """The next thing that the client did; None when more bytes are needed, or the session is over."""
        if self._pending is not None:
            raise RuntimeError(f"{type(self._pending).__name__} has not been answered")
        phase = self._phase
        if phase is _CLOSED:
            return None
        line = self._lines.next_line(AUTH_LINE if phase is _AUTH else COMMAND_LINE)
        if line is None:
            return None
        if isinstance(line, LineFault):
            self._pending = Rejected("Line too long", close=line is LineFault.ENDLESS)
        elif phase is _AUTH:
            self._pending = AuthLine(None if line == b"*" else line)
        else:
            self._pending = self._read(line)
        return self._pending

    def greet(self, text: str) -> None:
        """Queue the banner."""
        self._put(_status(True, text))

    def answer(self, ok: bool, text: str) -> None:
        """+OK or -ERR with `text`, which is one line; response codes ([IN-USE], RFC 2449 §8) are part of it."""
        event = self._take_pending()
        self._put(_status(ok, text))
        self._move(event, ok)

    def answer_list(self, text: str, lines: Iterable[str]) -> None:
        """+OK and a multi-line answer of short lines (LIST, UIDL, CAPA)."""
        self.answer_message(text, "\r\n".join((*lines, "")).encode("utf-8"))

    def answer_message(self, text: str, content: bytes) -> None:
        """+OK and a message, or a long list, that is in memory whole (RETR, TOP, LIST, UIDL), dot-stuffed."""
        event = self._take_pending()
        self._put(_status(True, text))
        self._put(stuff_whole(content))
        self._move(event, True)

    def answer_lines(self, text: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """+OK and a large message (RETR, TOP), dot-stuffed, as blocks for the session to send one by one.

        What `output` holds by now comes with them, first. Nothing happens before the first block is taken, and the event
        counts as answered with the last. The message is never in memory whole.
        """
        self._put(_status(True, text))
        for block in stuff(blocks):
            self._put(block)
            if self.has_much:
                yield self.output()
        self._move(self._take_pending(), True)
        yield self.output()

    def answer_auth(self, challenge: bytes) -> None:
        """Answer AUTH, or a line of its exchange, with a challenge (RFC 5034 §4). The next event is an AuthLine."""
        event = self._take_pending()
        if type(event) not in (Auth, AuthLine):
            raise RuntimeError("no AUTH exchange is open")
        self._put(b"+ " + base64.b64encode(challenge) + b"\r\n")
        self._phase = Phase.AUTH

    def started_tls(self) -> None:
        """After a good handshake: nothing said before counts (RFC 2595 §4).

        Raises ProtocolError when bytes had come before the handshake (invariant 6).
        """
        if self._lines:
            raise ProtocolError("bytes after STLS and before the handshake")
        self._phase = Phase.AUTHORIZATION

    def close(self, text: str) -> None:
        """End the session from our side with -ERR: a timeout, a shutdown. May come at any time."""
        self._put(_status(False, text))
        self._pending = None
        self._phase = Phase.CLOSED

    def output(self) -> bytes:
        """Take what is to be sent; b"" if nothing."""
        data = b"".join(self._out)
        self._out.clear()
        self._size = 0
        return data

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self._size += len(data)

    def _read(self, line: bytes) -> Event:
        """A command line. The argument of PASS is all that follows one space (RFC 1939 §7)."""
        word, _, rest = line.partition(b" ")
        command = commands.COMMANDS.get(word)
        if command is None:  # not as most clients write it
            word = word.rstrip(b"\t").upper()
            command = commands.COMMANDS.get(word)
        if command is None:
            if verb := self._extensions.verb(word, self._service):
                return self._read_extension(verb, rest)
            if word in HTTP_VERBS:
                return Rejected("This is a mail server, not a web server; closing", word.decode(), close=True)
            return Rejected(commands.NEWLINE if b"\n" in word or b"\r" in word else "Unknown command")
        if (self._phase, command) not in NEXT_PHASE:
            return Rejected(f"{word.decode()} is not for this state", word.decode())
        parsed = commands.parse(command, rest, updates=self._phase is Phase.TRANSACTION)
        return Rejected(parsed, word.decode()) if isinstance(parsed, str) else parsed

    def _read_extension(self, verb: Pop3Verb, rest: bytes) -> Event:
        kind = ExtensionLogin if verb.logs_in else ExtensionCommand
        if (self._phase, kind) not in NEXT_PHASE or self.state not in verb.states:
            return Rejected(f"{verb.name} is not for this state", verb.name)
        parsed = commands.parse_extension(verb, rest)
        return Rejected(parsed, verb.name) if isinstance(parsed, str) else parsed

    def _take_pending(self) -> Event:
        event, self._pending = self._pending, None
        if event is None:
            raise RuntimeError("there is no event to answer")
        return event

    def _move(self, event: Event, ok: bool) -> None:
        if type(event) is Rejected and event.close:
            self._phase = Phase.CLOSED
            return
        after_ok, after_err = NEXT_PHASE.get((self._phase, type(event)), (self._phase, self._phase))
        self._phase = after_ok if ok else after_err


def _status(ok: bool, text: str) -> bytes:
    """One line of at most 512 octets (RFC 1939 §3), whatever `text` holds."""
    line = " ".join(["+OK" if ok else "-ERR", *text.split()])
    return line.encode("ascii", "replace")[:510] + b"\r\n"
