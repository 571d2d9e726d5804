"""The server's side of an SMTP session (RFC 5321) without a socket: bytes in, events out; replies in, bytes out.

A session loop is: `receive` what was read; while `next_event` gives one, `answer` it; send `output`. What the client
pipelined is answered in one write (RFC 2920 §3.2). The order of commands is the table NEXT_PHASE and nothing else.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from mailserv.errors import ProtocolError
from mailserv.mail import reply as replies
from mailserv.mail.reply import Reply
from mailserv.mail.value import Value
from mailserv.protocol.commands import (
    COMMANDS,
    LMTP_COMMANDS,
    AuthLine,
    Chunk,
    ChunkEnd,
    ContentBlock,
    ContentEnd,
    ContentRefused,
    Data,
    Ehlo,
    Event,
    ExtensionCommand,
    Helo,
    Mail,
    Rejected,
)
from mailserv.protocol.dots import DotReader, Newlines
from mailserv.protocol.extensions import ExtensionTable
from mailserv.protocol.lines import LineFault, LineReader
from mailserv.protocol.smtp_phases import AFTER_REFUSAL, MOVES_ANYWAY, NEXT_PHASE, TRANSACTION, Phase
from mailserv.protocol.smtp_reader import CommandReader, View

__all__ = ["NEXT_PHASE", "Phase", "SmtpServer", "WireLimits"]

_CONTENT, _AUTH, _CLOSED = Phase.CONTENT, Phase.AUTH, Phase.CLOSED  # asked for at each command
_NO_COMMANDS = frozenset({_CONTENT, _AUTH, _CLOSED})  # something else comes next, or nothing


class WireLimits(Value, frozen=True):
    """Octets of a line, CRLF included."""

    command_line: int = 512  # RFC 5321 §4.5.3.1.4; the growth of the extensions comes on top
    auth_line: int = 12288  # RFC 4954 §4: the longest base64 line of an exchange


class SmtpServer:
    """One session. One thread. Raises RuntimeError where the caller breaks the rule: each event is answered once."""

    __slots__ = (
        "_auth_limit",
        "_blocks",
        "_chunk",
        "_chunk_left",
        "_dots",
        "_line_limit",
        "_lines",
        "_newlines",
        "_out",
        "_pending",
        "_phase",
        "_reader",
    )
    _newlines: Newlines  # of a content that comes in chunks: from its first one on

    def __init__(self, *, extensions: ExtensionTable, limits: WireLimits, is_lmtp: bool = False) -> None:
        """`is_lmtp`: the greeting is LHLO (RFC 2033 §4.1), and the end of a content has a reply for each recipient."""
        self._reader = CommandReader(extensions, LMTP_COMMANDS if is_lmtp else COMMANDS)
        self._line_limit = limits.command_line + extensions.line_growth
        self._auth_limit = limits.auth_line
        self._lines = LineReader()
        self._dots: DotReader | None = None  # while content flows in
        self._chunk: Chunk | None = None  # while its octets flow in
        self._chunk_left = 0
        self._blocks: deque[bytes] = deque()
        self._out = b""
        self._phase = Phase.CONNECTED
        self._pending: Event | None = None

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def has_input(self) -> bool:
        """Whether bytes are here that no event has told of: before a handshake they are an error (invariant 6)."""
        return bool(self._lines)

    # in

    def receive(self, data: bytes) -> None:
        """Take what was read from the client. After CLOSED it is thrown away."""
        if self._phase is _CLOSED:
            return
        if self._dots is not None:
            self._feed_content(data)
        elif self._chunk is not None:
            self._feed_chunk(data)
        else:
            self._lines.feed(data)

    def next_event(self, view: View) -> Event | None:
        """The next thing that the client did; None when more bytes are needed, or the session is over.

        `view` is called only when an extension is concerned.
        """
        if self._pending is not None:
            raise RuntimeError(f"{type(self._pending).__name__} has not been answered")
        phase = self._phase
        if phase in _NO_COMMANDS:
            return self._no_command(phase)
        if self._chunk is not None:
            return self._next_of_chunk(self._chunk)
        line = self._lines.next_line(self._line_limit) if self._lines.buffer else None
        if line is None:
            return None
        if not isinstance(line, bytes):
            event: Event = self._overlong(line)
        else:
            event = self._reader.read(line, phase, view)
            if type(event) is Chunk:
                return self._begin_chunk(event)
        self._pending = event
        return event

    # out

    def greet(self, reply: Reply) -> None:
        """Queue the banner: 220, or 554 and 421 for a client that is not welcome."""
        self._out += reply.encode()

    def answer(self, reply: Reply, copies: int = 1) -> None:
        """The answer to the last event. A 421 closes the session, whatever it answers (RFC 5321 §3.8).

        `copies`: of the answer to the end of a content, one for each recipient that was accepted (RFC 2033 §4.2).
        """
        event, self._pending = self._pending, None
        if event is None:
            raise RuntimeError("there is no event to answer")
        self._out += reply.encode() if copies == 1 else reply.encode() * copies
        if reply.code < 400:
            self._move(event)
        else:
            self._refused(event, reply)

    def close(self, reply: Reply) -> None:
        """End the session from our side: a timeout, a shutdown. May come at any time, answered events or not."""
        self._out += reply.encode()
        self._pending = None
        self._phase = Phase.CLOSED

    def output(self) -> bytes:
        """Take what is to be sent; b"" if nothing."""
        output, self._out = self._out, b""
        return output

    # what the session tells

    def answer_auth(self, challenge: bytes) -> None:
        """Answer AUTH, or a line of its exchange, with a challenge (RFC 4954 §4). The next event is an AuthLine.

        Any other reply to it, by `answer`, ends the exchange.
        """
        kind = type(self._pending)
        if kind is not AuthLine and not (self._phase is Phase.GREETED and kind is ExtensionCommand):
            raise RuntimeError("AUTH comes after a greeting and outside a transaction (RFC 4954 §4)")
        self._pending = None
        self._out += b"334 " + base64.b64encode(challenge) + b"\r\n"
        self._phase = Phase.AUTH

    def started_tls(self) -> None:
        """After a good handshake: all that the client said before is forgotten (RFC 3207 §4.2).

        Raises ProtocolError when bytes had come before the handshake (invariant 6).
        """
        if self._lines:
            raise ProtocolError("bytes after STARTTLS and before the handshake")
        self.begin_anew()

    def begin_anew(self) -> None:
        """All that the client said is forgotten; the next is EHLO or HELO."""
        self._phase = Phase.CONNECTED
        self._reader.is_esmtp = self._reader.is_smtputf8 = False

    def reset_transaction(self) -> None:
        """Forget sender and recipients, as RSET does."""
        if self._phase in TRANSACTION:
            self._phase = Phase.GREETED

    # inside

    def _no_command(self, phase: Phase) -> Event | None:
        if phase is _CONTENT:
            return self._next_content()
        line = None if phase is _CLOSED else self._lines.next_line(self._auth_limit)
        if line is None:
            return None
        if isinstance(line, bytes):
            self._pending = AuthLine(None if line == b"*" else line)
        else:
            self._pending = self._overlong(line)
        return self._pending

    def _refused(self, event: Event, reply: Reply) -> None:
        if reply.code == 421 or (type(event) is Rejected and event.close):
            self._phase = _CLOSED
        elif self._phase is _AUTH or type(event) in MOVES_ANYWAY:
            self._move(event)
        else:
            self._phase = AFTER_REFUSAL.get((self._phase, type(event)), self._phase)

    def _move(self, event: Event) -> None:
        kind = type(event)
        self._phase = NEXT_PHASE.get((self._phase, kind), self._phase)
        follow = self._FOLLOW.get(kind)
        if follow is not None:
            follow(self, event)

    def _mail_follows(self, event: Mail) -> None:
        self._reader.is_smtputf8 = "SMTPUTF8" in event.parameters

    def _content_follows(self, _: Data) -> None:
        self._dots = DotReader()
        if self._lines:  # pipelined, against RFC 2920 §3.1
            self._feed_content(self._lines.take_rest())

    def _greeted(self, event: Ehlo | Helo) -> None:
        self._reader.is_esmtp = type(event) is Ehlo

    _FOLLOW: ClassVar[dict[type[Event], Callable[[SmtpServer, Any], None]]] = {
        Mail: _mail_follows,
        Data: _content_follows,
        Ehlo: _greeted,
        Helo: _greeted,
    }

    def _feed_content(self, data: bytes) -> None:
        dots = self._dots
        assert dots is not None
        if dots.ended:  # pipelined behind the content, whose end is not answered yet
            self._lines.feed(data)
            return
        self._blocks.extend(dots.feed(data))
        if dots.ended:
            self._lines.feed(dots.rest)

    def _next_content(self) -> Event | None:
        dots = self._dots
        if self._blocks:
            return ContentBlock(self._blocks.popleft())
        assert dots is not None  # it is from the 354 to the end, which is answered before anything else is asked
        if not dots.ended and not (dots.bare and dots.looks_ended):
            return None
        if dots.ended:
            self._dots = None
        self._pending = ContentRefused(replies.BARE_NEWLINE) if dots.bare else ContentEnd()
        return self._pending

    def _begin_chunk(self, chunk: Chunk) -> Event | None:
        """RFC 3030 §2: the octets are taken also where the command is out of order, or they would be commands."""
        if self._phase is Phase.HAS_RECIPIENT:
            self._newlines = Newlines()
        self._chunk, self._chunk_left = chunk, chunk.octets
        self._feed_chunk(self._lines.take_rest())
        if chunk.refusal is not None:
            return self._next_of_chunk(chunk)
        self._phase = NEXT_PHASE[(self._phase, Chunk)]
        return chunk

    def _feed_chunk(self, data: bytes) -> None:
        chunk = self._chunk
        assert chunk is not None
        block, rest = data[: self._chunk_left], data[self._chunk_left :]
        self._chunk_left -= len(block)
        if block and chunk.refusal is None:
            self._newlines.note(block)
            self._blocks.append(block)
        if rest:
            self._lines.feed(rest)

    def _next_of_chunk(self, chunk: Chunk) -> Event | None:
        if self._blocks:
            return ContentBlock(self._blocks.popleft())
        if self._chunk_left:
            return None
        self._chunk = None
        if chunk.refusal is not None:
            self._pending = Rejected(chunk.refusal, chunk.verb)
        elif chunk.is_last:
            self._pending = ContentEnd(self._newlines.end())
        else:
            self._pending = ChunkEnd(chunk.octets, self._newlines.bare)
        return self._pending

    def _overlong(self, fault: LineFault) -> Rejected:
        if fault is LineFault.ENDLESS:
            return Rejected(replies.LINE_ENDLESS, close=True)
        return Rejected(replies.AUTH_LINE_TOO_LONG if self._phase is Phase.AUTH else replies.LINE_TOO_LONG)
