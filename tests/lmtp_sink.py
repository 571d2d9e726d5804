"""An LMTP server on a real socket that does what a test tells it (RFC 2033)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

DROP = ""  # an answer: close the connection without a word
SILENCE = None  # an answer: say nothing and wait
OFFERS = ("PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SIZE 1000000")
Answer = str | None


@dataclass(frozen=True, slots=True)
class Taken:
    mail: str
    rcpts: tuple[str, ...]
    content: bytes  # with its dots


class _Gone(Exception):
    """This connection is over."""


class LmtpSink:
    """The script maps the beginning of a command, or "GREETING" or "DOT", to answers that are used up one by one; then
    the server answers by its own lights again. After the dot each accepted recipient uses up one."""

    def __init__(self, listener: socket.socket, script: Mapping[str, list[Answer]], offers: tuple[str, ...]) -> None:
        self._listener = listener
        self._script = {key: list(answers) for key, answers in script.items()}
        self._offers = offers
        self.before_the_dot = b""  # sent when the first line of the content is here
        self.ends_before_the_dot = False  # the connection, once that was sent
        self.messages: list[Taken] = []
        self.commands: list[str] = []
        self.connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def place(self) -> str:
        """As a route names it."""
        name = self._listener.getsockname()
        return f"unix:{name}" if isinstance(name, str) else f"[{name[0]}]:{name[1]}"

    @property
    def port(self) -> int:
        """Of one on 127.0.0.1."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        for sock in (self._listener, *self.connections):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._listener.close()

    def _serve(self) -> None:
        """One connection after the other."""
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(sock)
            with sock, sock.makefile("rb") as lines, suppress(OSError, _Gone):
                self._session(sock, lines)

    def _session(self, sock: socket.socket, lines: Iterator[bytes]) -> None:
        self._say(sock, "GREETING", "220 lmtp.example.net LMTP")
        mail, rcpts = "", []
        for line in lines:
            command = line.decode().rstrip("\r\n")
            self.commands.append(command)
            verb = command.split(" ")[0].upper()
            if verb == "LHLO":
                hello = [f"250-{word}" for word in ("lmtp.example.net", *self._offers)]
                hello[-1] = hello[-1].replace("250-", "250 ")
                self._say(sock, command, "\r\n".join(hello))
            elif verb == "MAIL":
                if self._say(sock, command, "250 2.1.0 Ok"):
                    mail, rcpts = command, []
            elif verb == "RCPT":
                if mail and self._say(sock, command, "250 2.1.5 Ok"):
                    rcpts.append(command)
                elif not mail:
                    self._say(sock, "", "503 5.5.1 MAIL first")
            elif verb == "DATA":
                if self._say(sock, command, "354 Go on" if rcpts else "503 5.5.1 No valid recipients"):
                    first = next(lines, b"")
                    sock.sendall(self.before_the_dot)
                    if self.ends_before_the_dot:
                        raise _Gone
                    self.messages.append(Taken(mail, tuple(rcpts), _content(chain([first], lines))))
                    for _ in rcpts:
                        self._say(sock, "DOT", "250 2.0.0 Saved")
                    mail, rcpts = "", []
            elif verb == "RSET":
                mail, rcpts = "", []
                self._say(sock, command, "250 2.0.0 Ok")
            else:
                self._say(sock, command, "221 2.0.0 Bye" if verb == "QUIT" else "500 5.5.2 What?")

    def _say(self, sock: socket.socket, moment: str, usual: str) -> bool:
        """Whether it was a yes."""
        answers = next((answers for key, answers in self._script.items() if key and moment.startswith(key)), [])
        answer = answers.pop(0) if answers else usual
        if answer is SILENCE:
            sock.recv(1)
            raise _Gone
        if answer == DROP:
            raise _Gone
        sock.sendall(answer.encode() + b"\r\n")
        return answer[0] in "23"


def _content(lines: Iterator[bytes]) -> bytes:
    content = []
    for line in lines:
        if line == b".\r\n":
            return b"".join(content)
        content.append(line)
    raise _Gone  # without a dot


@contextmanager
def lmtp_sink(
    script: Mapping[str, list[Answer]] | None = None, *, path: Path | None = None, offers: tuple[str, ...] = OFFERS
) -> Iterator[LmtpSink]:
    """On a Unix socket at `path`, or on a free port of 127.0.0.1."""
    if path:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
    else:
        listener = socket.create_server(("127.0.0.1", 0))
    sink = LmtpSink(listener, script or {}, offers)
    try:
        yield sink
    finally:
        sink.close()
