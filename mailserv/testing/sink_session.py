"""One session of `mailserv.testing.sink.ScriptedMX`: a plain SMTP server of its own, no line of it shared with mailserv's."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer sent octet by octet as it is (no CRLF is added). `close`: then the connection is closed."""

    data: bytes
    close: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """An answer that waits until the test sets `release` (or closes the sink). `reached` is set when a client got there."""

    then: Answer
    release: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)


Answer = str | Raw | Held

DROP = Raw(b"", close=True)  # close the connection instead of answering
SILENCE = Raw(b"")  # do not answer, go on listening


@dataclass(frozen=True, slots=True)
class TakenMessage:
    """A message that this server accepted. Paths are as the client wrote them, parameters included: "<a@b> SIZE=3"."""

    mail: str
    rcpts: tuple[str, ...]
    content: bytes  # without dot-stuffing, with its last CRLF
    helo: str
    is_tls: bool
    login: str


class Director(Protocol):
    """What a session asks the sink, and tells it."""

    @property
    def offers(self) -> Iterable[str]: ...
    @property
    def context(self) -> ssl.SSLContext | None: ...
    def next_answer(self, moment: str, default: str) -> Answer: ...
    def note_read(self, data: bytes) -> None: ...
    def note_command(self, line: str) -> None: ...
    def note_login(self, user: str, password: str) -> None: ...
    def note_message(self, message: TakenMessage) -> None: ...


class Hangup(Exception):
    """The client has closed, or the script says that we do."""


class Session:
    """Reads commands and answers them as the director says. One thread, but for `abort`."""

    def __init__(self, director: Director, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._director = director
        self._sock = sock
        self._buffer = b""
        self._is_tls = False
        self._helo = ""
        self._login = ""
        self._mail = ""
        self._rcpts: list[str] = []
        self._chunks = b""

    def run(self) -> None:
        """Until either side has had enough."""
        handlers = {
            "EHLO": self._hello,
            "HELO": self._hello,
            "MAIL": self._mail_from,
            "RCPT": self._rcpt_to,
            "DATA": self._data,
            "BDAT": self._bdat,
            "RSET": self._rset,
            "STARTTLS": self._start_tls,
            "AUTH": self._auth,
            "QUIT": self._quit,
        }
        try:
            self._say("GREETING", "220 sink.test ESMTP")
            while True:
                line = self._line()
                self._director.note_command(line)
                handlers.get(line[:8].split(" ")[0].upper(), self._unknown)(line)
        except (OSError, Hangup):
            pass  # the client went away, or the script says so
        finally:
            self._sock.close()

    def abort(self) -> None:
        """Make `run` end. Any thread."""
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            return  # it has ended

    def _hello(self, line: str) -> None:
        offers = [*self._director.offers]
        if self._director.context and not self._is_tls:
            offers.append("STARTTLS")
        if line[:4].upper() == "HELO":
            offers = []
        if self._say(line, "250 " + "\n".join(["sink.test", *offers])) == 2:
            self._helo = line[5:]
            self._mail, self._rcpts = "", []

    def _mail_from(self, line: str) -> None:
        default = "503 5.5.1 Nested MAIL" if self._mail else "250 2.1.0 Ok"
        if self._say(line, default) == 2:
            self._mail = line[10:]

    def _rcpt_to(self, line: str) -> None:
        default = "250 2.1.5 Ok" if self._mail else "503 5.5.1 MAIL first"
        if self._say(line, default) == 2:
            self._rcpts.append(line[8:])

    def _data(self, line: str) -> None:
        default = "354 Go ahead" if self._rcpts else "554 5.5.1 No valid recipients"
        if self._say(line, default) != 3:
            return
        self._say("CONTENT", "")
        while not (b"\r\n" + self._buffer).count(b"\r\n.\r\n"):
            self._read()
        end = (b"\r\n" + self._buffer).index(b"\r\n.\r\n")
        content, self._buffer = self._buffer[:end], self._buffer[end + 3 :]
        self._take((b"\r\n" + content).replace(b"\r\n.", b"\r\n")[2:])

    def _bdat(self, line: str) -> None:
        """RFC 3030: the octets are read whatever is said of them."""
        octets = int(line.split(" ")[1])
        while len(self._buffer) < octets:
            self._read()
        self._chunks, self._buffer = self._chunks + self._buffer[:octets], self._buffer[octets:]
        if line.upper().endswith(" LAST"):
            content, self._chunks = self._chunks, b""
            self._take(content)
        else:
            self._say(line, "250 2.0.0 Ok" if self._rcpts else "503 5.5.1 RCPT first")

    def _take(self, content: bytes) -> None:
        default = "250 2.0.0 Taken" if self._rcpts else "554 5.5.1 No valid recipients"
        taken = TakenMessage(self._mail, tuple(self._rcpts), content, self._helo, self._is_tls, self._login)
        message = taken if self._rcpts else None  # there was a 354 for nobody
        self._mail, self._rcpts = "", []
        # Noted before the answer is on its way, so that whoever has the answer sees the message too.
        self._say("DOT", default, taking=message)

    def _rset(self, line: str) -> None:
        if self._say(line, "250 2.0.0 Ok") == 2:
            self._mail, self._rcpts, self._chunks = "", [], b""

    def _start_tls(self, line: str) -> None:
        context = self._director.context
        if self._say(line, "220 2.0.0 Go ahead" if context else "502 5.5.1 No TLS here") != 2 or context is None:
            return
        self._sock = context.wrap_socket(self._sock, server_side=True)
        self._is_tls = True
        self._buffer, self._helo = b"", ""

    def _auth(self, line: str) -> None:
        _, mechanism, *initial = line.split(" ")
        if mechanism.upper() == "PLAIN" and initial:
            _, user, password = base64.b64decode(initial[0]).decode().split("\0")
        elif mechanism.upper() == "LOGIN":
            user, password = (self._challenge(prompt) for prompt in (b"Username:", b"Password:"))
        else:
            self._say(line, "504 5.5.4 Mechanism not offered")
            return
        self._director.note_login(user, password)
        if self._say(line, "235 2.7.0 Welcome") == 2:
            self._login = user

    def _challenge(self, prompt: bytes) -> str:
        self._say("AUTH-LINE", f"334 {base64.b64encode(prompt).decode()}")
        return base64.b64decode(self._line()).decode()

    def _quit(self, line: str) -> None:
        self._say(line, "221 2.0.0 Bye")
        raise Hangup

    def _unknown(self, line: str) -> None:
        self._say(line, "500 5.5.2 What?")

    def _say(self, moment: str, default: str, taking: TakenMessage | None = None) -> int:
        """Answer; the first digit of what was said, 0 for silence. `taking` counts as taken when that is a 2."""
        answer = self._director.next_answer(moment, default)
        while isinstance(answer, Held):
            answer.reached.set()
            answer.release.wait()
            answer = answer.then
        raw = answer if isinstance(answer, Raw) else Raw(_encode(answer))
        digit = int(raw.data[:1]) if raw.data[:1].isdigit() else 0
        if taking and digit == 2:
            self._director.note_message(taking)
        if raw.data:
            self._sock.sendall(raw.data)
        if raw.close:
            raise Hangup
        return digit

    def _line(self) -> str:
        while b"\r\n" not in self._buffer:
            self._read()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode("utf-8", "replace")

    def _read(self) -> None:
        data = self._sock.recv(65_536)
        if not data:
            raise Hangup
        self._director.note_read(data)
        self._buffer += data


def _encode(text: str) -> bytes:
    """ "250 a\\nb" → 250-a, 250 b."""
    if not text:
        return b""
    code, lines = text[:3], text[4:].split("\n")
    marks = ["-"] * (len(lines) - 1) + [" "]
    return "".join(f"{code}{mark}{line}\r\n" for mark, line in zip(marks, lines, strict=True)).encode()
