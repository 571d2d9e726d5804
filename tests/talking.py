"""A plain client for tests: says lines, hears replies, knows nothing of any protocol but when a reply is over."""

from __future__ import annotations

import base64
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

PATIENCE = 20.0  # seconds until a test says that no answer came


class Talk:
    """One connection. `say` and `hear` for commands, `send` and `ended` for what is none."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self._buffer = b""

    @classmethod
    def to(cls, address: tuple[str, int]) -> Self:
        return cls(socket.create_connection(address, PATIENCE))

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def line(self) -> str:
        """One line of the server's; "" when there is none any more."""
        while b"\r\n" not in self._buffer:
            data = self._receive()
            if not data:
                return ""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode("utf-8", "backslashreplace")

    def hear(self) -> str:
        """One SMTP reply, its lines joined by line feeds; "" when the server has closed."""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return "\n".join(lines)

    def say(self, command: str | bytes) -> str:
        """A command line; its reply."""
        data = command if isinstance(command, bytes) else command.encode("utf-8", "surrogateescape")
        self.send(data + b"\r\n")
        return self.hear()

    def say_all(self, *commands: str) -> list[str]:
        return [self.say(command) for command in commands]

    def ended(self) -> bool:
        """Whether the server closes without another word."""
        return not self._buffer and self._receive() == b""

    def drip(self, octet: bytes, meanwhile: Callable[[], None] = lambda: None) -> float:
        """Send one octet after the other until the server says something or closes; how long it took, in seconds."""
        began = time.monotonic()
        while not select.select([self.sock], [], [], 0.02)[0]:
            meanwhile()
            if time.monotonic() - began > PATIENCE:
                raise AssertionError(f"dripped for {PATIENCE} s and nobody minded")
            try:
                self.send(octet)
            except OSError:
                break
        return time.monotonic() - began

    def start_tls(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        wrapped = context.wrap_socket(self.sock, server_hostname="mail.example.org", session=session)
        self.sock = wrapped
        return wrapped

    def send_mail(self, reverse_path: str, forward_paths: list[str], content: bytes) -> str:
        """One whole transaction; the last reply that counts."""
        replies = [self.say(f"MAIL FROM:<{reverse_path}>")]
        replies += [self.say(f"RCPT TO:<{path}>") for path in forward_paths]
        replies.append(self.say("DATA"))
        if replies[-1][:1] != "3":
            return replies[-1]
        self.send(content)
        return self.say(b".")

    def reset(self) -> None:
        """Close as a client that dies does: with RST, nothing sent, nothing read."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self) -> bytes:
        try:
            return self.sock.recv(65536)
        except (ConnectionError, ssl.SSLError):
            return b""


def greeted(address: tuple[str, int], name: str = "client.example.net") -> Talk:
    """A session after EHLO."""
    talk = Talk.to(address)
    try:
        greeting = talk.hear()
        assert greeting.startswith("220 "), greeting
        answer = talk.say(f"EHLO {name}")
        assert answer.startswith("250"), answer
    except BaseException:
        talk.close()
        raise
    return talk


def auth_plain(user: str, password: str) -> str:
    """The command that logs in."""
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()
