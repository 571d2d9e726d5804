"""One LMTP session from the client's side (RFC 2033): LHLO, and after the dot a reply for each recipient."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from mailserv.mail.address import Address
from mailserv.mail.delivery import Delivery
from mailserv.mail.dot_stuffing import stuff
from mailserv.mail.reply import Reply, Severity
from mailserv.mail.smtp_reply import ProtocolError, ReplyReader, ServerReply

READ_SIZE = 65_536  # octets asked for at once
SEND_SIZE = 256 * 1024  # octets of content sent at once; a small message goes with its dot
FAREWELL = 2.0  # seconds for QUIT, whose reply changes nothing
NOT_BINARY = Reply(554, "5.6.1", "The server of this recipient takes no binary content")
OF_ONE = (".1.", ".2.")  # what is said of an address or a mailbox (RFC 3463 §3.2, §3.3), and so of one recipient
UNHEARD = Reply(451, "4.5.0", "The server refused another recipient in the middle of the content")
NOT_UTF8 = Reply(553, "5.6.7", "The server of this recipient takes no internationalised addresses")


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds: for the connection, for the reply to a command, for each reply after the dot (RFC 5321 §4.5.3.2)."""

    connect: float
    command: float
    dot: float


class ServerClosed(Exception):
    """The server said 421 (RFC 5321 §3.8)."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(slots=True)
class Told:
    """What each recipient of one message was told so far. `dot_sent`: the server may have taken the message. `ours`: those
    whose reply is in our words, not the server's."""

    replies: list[Reply | None]
    dot_sent: bool = False
    accepted: list[int] = field(default_factory=list)
    ours: set[int] = field(default_factory=set)

    def rest(self, reply: Reply, *, is_ours: bool = False) -> None:
        """Everybody who has no answer gets this one."""
        for index, known in enumerate(self.replies):
            if known is None:
                self.put(index, reply, is_ours=is_ours)

    def put(self, index: int, reply: Reply, *, is_ours: bool = False) -> None:
        """One recipient's answer."""
        self.replies[index] = reply
        if is_ours:
            self.ours.add(index)

    def forget(self) -> None:
        """All of it is to be asked again."""
        self.replies = [None] * len(self.replies)
        self.accepted.clear()
        self.ours.clear()


class Session:
    """One thread. `open` and `carry` raise OSError, ProtocolError and ServerClosed; then only `end` is of use."""

    def __init__(self, sock: socket.socket, waits: Waits) -> None:
        self._sock = sock
        self._waits = waits
        self._reader = ReplyReader()
        self._offers: dict[str, str] = {}
        self.in_order = False  # the server waits for a command; otherwise only `end` is of use
        self._needs_reset = False
        self.carried = 0  # messages

    def open(self, hostname: str) -> Reply | None:
        """The greeting and LHLO; what the server said when it wants no mail now."""
        greeting = self._read(self._waits.command)
        if greeting.severity is not Severity.POSITIVE:
            return greeting.to_reply()
        (hello,) = self._ask([b"LHLO %s\r\n" % hostname.encode("ascii", "replace")])
        if hello.severity is not Severity.POSITIVE:
            return hello.to_reply()
        for line in hello.lines[1:]:
            keyword, _, value = line.partition(" ")
            self._offers[keyword.upper()] = value
        self.in_order = True
        return None

    def carry(self, delivery: Delivery, told: Told) -> None:
        """One transaction. Whatever raises, `told` has the answers that came before it."""
        self.in_order = False
        self.carried += 1
        if not self._can_take(delivery, told):
            self.in_order = True
            return
        if self._needs_reset:
            (reset,) = self._ask([b"RSET\r\n"])
            _expect(reset, Severity.POSITIVE)
        self._needs_reset = True
        wanted = [index for index, reply in enumerate(told.replies) if reply is None]
        rcpts = [b"RCPT TO:<%s>\r\n" % str(delivery.rows[index].forward_path).encode() for index in wanted]
        answers = self._ask([self._mail(delivery), *rcpts, b"DATA\r\n"])
        has_data = self._take_recipients(answers, wanted, told)
        self.in_order = not has_data or self._take_content(next(answers), delivery, told)

    def ask_about(self, address: Address) -> Reply:
        """What the server says to a RCPT, in a transaction from the null reverse-path that is not gone on with."""
        if not address.is_ascii and "SMTPUTF8" not in self._offers:
            return NOT_UTF8
        utf8 = "" if address.is_ascii else " SMTPUTF8"
        mail, rcpt = self._ask([f"MAIL FROM:<>{utf8}\r\n".encode(), f"RCPT TO:<{address}>\r\n".encode()])
        return (rcpt if mail.severity is Severity.POSITIVE else mail).to_reply()

    def end(self) -> None:
        """QUIT where it would be understood, and close. Idempotent."""
        with suppress(OSError, ProtocolError, ServerClosed):
            if self.in_order:
                self.in_order = False
                self._sock.settimeout(FAREWELL)
                self._sock.sendall(b"QUIT\r\n")
                self._read(FAREWELL)
        self._sock.close()

    def _can_take(self, delivery: Delivery, told: Told) -> bool:
        """Answer here for those whom this server can't take. Whether anybody is left."""
        if delivery.parameters.get("BODY", "").upper() == "BINARYMIME":
            told.rest(NOT_BINARY, is_ours=True)  # it would need BDAT (RFC 3030 §3), and a dot could stand anywhere
        elif "SMTPUTF8" not in self._offers:
            for index, row in enumerate(delivery.rows):
                if not (row.forward_path.is_ascii and delivery.reverse_path.is_ascii):
                    told.put(index, NOT_UTF8, is_ours=True)
        return None in told.replies

    def _mail(self, delivery: Delivery) -> bytes:
        """8-bit header fields go to a server without SMTPUTF8 as they are: it is the last one, and keeps what it gets."""
        extra = f" SIZE={delivery.content.size}" if "SIZE" in self._offers else ""
        if "8BITMIME" in self._offers and delivery.parameters.get("BODY", "").upper() == "8BITMIME":
            extra += " BODY=8BITMIME"
        if "SMTPUTF8" in self._offers and "SMTPUTF8" in delivery.parameters:
            extra += " SMTPUTF8"
        return f"MAIL FROM:<{delivery.reverse_path}>{extra}\r\n".encode()

    def _take_recipients(self, answers: Iterator[ServerReply], wanted: list[int], told: Told) -> bool:
        """The answers to MAIL and each RCPT. Whether DATA has been or is to be said."""
        mail = _expect(next(answers), Severity.POSITIVE, Severity.TRANSIENT, Severity.PERMANENT)
        if mail.severity is not Severity.POSITIVE:
            told.rest(mail.to_reply())
            return self._pipelines and self._drain(answers, len(wanted))
        for index in wanted:
            reply = _expect(next(answers), Severity.POSITIVE, Severity.TRANSIENT, Severity.PERMANENT)
            if reply.severity is Severity.POSITIVE:
                told.accepted.append(index)
            else:
                # 552 stays 552: here it is said of a mailbox that is full, not of too many recipients.
                told.put(index, reply.to_reply())
        return self._pipelines or bool(told.accepted)

    def _drain(self, answers: Iterator[ServerReply], count: int) -> bool:
        """What the RCPTs behind a refused MAIL were told is only a consequence; the answer to DATA comes next."""
        for _ in range(count):
            next(answers)
        return True

    def _take_content(self, data: ServerReply, delivery: Delivery, told: Told) -> bool:
        """The answer to DATA, and those to the content. Whether the server waits for a command now."""
        _expect(data, Severity.INTERMEDIATE, Severity.TRANSIENT, Severity.PERMANENT)
        if data.severity is not Severity.INTERMEDIATE:
            told.rest(data.to_reply())
            return True
        if not told.accepted:
            raise ProtocolError("DATA was accepted without a recipient")  # RFC 2033 §4.2 forbids it: leave
        if not self._reader.is_empty:
            raise ProtocolError("a reply came before the content")  # it would count as the answer to the dot
        held = b""
        for block in stuff(delivery.content.blocks()):
            if held and len(held) + len(block) > SEND_SIZE:
                if self._is_refused_after(held):
                    self._take_early(told)
                    return False
                held = b""
            held += block
        told.dot_sent = True  # even when sending it fails, nobody can tell how much got through
        self._send(held)
        for index in told.accepted:
            reply = _expect(self._read(self._waits.dot), Severity.POSITIVE, Severity.TRANSIENT, Severity.PERMANENT)
            told.put(index, reply.to_reply())
        self._needs_reset = False
        return True

    def _is_refused_after(self, piece: bytes) -> bool:
        """Send content without its dot. Whether an answer has come meanwhile; the server may have closed behind it, too."""
        try:
            self._send(piece)
        except OSError:
            if not self._has_answered():
                raise
        return self._has_answered()

    def _has_answered(self) -> bool:
        self._sock.settimeout(0)
        with suppress(OSError):  # nothing has come, or the connection is gone: whoever sends next hears of that
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        return False

    def _take_early(self, told: Told) -> None:
        """Answers before the dot are refusals, for without it nothing can have been taken: one for each recipient, in order
        as ever, or one for all who are left. Raises ProtocolError for any other."""
        left = list(told.accepted)
        reply: ServerReply | None = self._read(self._waits.command)
        while reply and left:
            refusal = _expect(reply, Severity.TRANSIENT, Severity.PERMANENT).to_reply()
            told.put(left.pop(0), refusal)
            reply = self._reader.next()
        if refusal.enhanced[1:4] in OF_ONE:
            told.rest(UNHEARD, is_ours=True)
        else:
            told.rest(refusal)

    @property
    def _pipelines(self) -> bool:
        return "PIPELINING" in self._offers

    def _ask(self, commands: list[bytes]) -> Iterator[ServerReply]:
        """All commands at once where that is offered (every LMTP server must), else each when it is asked for."""
        if self._pipelines:
            self._send(b"".join(commands))
        for command in commands:
            if not self._pipelines:
                self._send(command)
            yield self._read(self._waits.command)

    def _send(self, data: bytes) -> None:
        self._sock.settimeout(self._waits.command)
        self._sock.sendall(data)

    def _read(self, seconds: float) -> ServerReply:
        """The next reply. The deadline is for all of it: a server that drips octets gains nothing."""
        deadline = time.monotonic() + seconds
        while (reply := self._reader.next()) is None:
            wait = deadline - time.monotonic()
            if wait <= 0:
                raise TimeoutError
            self._sock.settimeout(wait)
            data = self._sock.recv(READ_SIZE)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "closed")
            self._reader.feed(data)
        if reply.code == 421:
            raise ServerClosed(reply.to_reply())
        return reply


def _expect(reply: ServerReply, *severities: Severity) -> ServerReply:
    if reply.severity not in severities:
        raise ProtocolError(f"{reply.code} is no answer here")
    return reply
