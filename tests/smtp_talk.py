"""An SMTP client for tests that must see every reply: the greeting is read, transactions are whole."""

from __future__ import annotations

import base64
import socket
import ssl
from types import TracebackType
from typing import Self


class SmtpTalk:
    """One connection. Made of a connected socket; reads the greeting at once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines = sock.makefile("rb")
        self.greeting = self.reply()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._lines.close()
        self._sock.close()

    def say(self, line: str) -> str:
        """Send a line; the last line of the reply."""
        return self.ask(line).splitlines()[-1]

    def ask(self, line: str) -> str:
        """Send a line; the whole reply."""
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def reply(self) -> str:
        """The next reply; "" when the server has closed."""
        text = ""
        while line := self._lines.readline().decode():
            text += line
            if line[3:4] != "-":
                break
        return text.rstrip("\r\n")

    def is_closed(self) -> bool:
        return self._lines.readline() == b""

    def start_tls(self, context: ssl.SSLContext) -> None:
        assert self.say("STARTTLS").startswith("220")
        self._lines.close()
        self._sock = context.wrap_socket(self._sock, server_hostname="mail.example.org")
        self._lines = self._sock.makefile("rb")

    def log_in(self, login: str, password: str) -> str:
        return self.say("AUTH PLAIN " + base64.b64encode(f"\0{login}\0{password}".encode()).decode())

    def message(self, reverse_path: str, *forward_paths: str, content: bytes = b"Subject: x\r\n\r\nx\r\n") -> str:
        """A whole transaction; the reply to its end, or the first one that refuses."""
        for line in (f"MAIL FROM:<{reverse_path}>", *(f"RCPT TO:<{path}>" for path in forward_paths), "DATA"):
            answer = self.say(line)
            if answer[0] not in "23":
                return answer
        self.send(content + b".\r\n")
        return self.reply()
