"""The least of an SMTP client: each command waits for the reply to the one before, as smtp-source does it."""

from __future__ import annotations

import socket
from types import TracebackType

from bench.waiting import START_SECONDS

LINE = b"A line of text that says nothing in particular, but says it in seventy.\r\n"


def message(octets: int) -> bytes:
    """Content of about so many octets, with the dot at its end."""
    header = b"From: probe@example.net\r\nTo: box@example.org\r\nSubject: probe\r\n\r\n"
    return header + LINE * max(1, (octets - len(header)) // len(LINE)) + b".\r\n"


class SMTPClient:
    """A session that has said HELO. ValueError when a reply is not what it should be. One thread."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), START_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = self._socket.makefile("rb")
        self._expect(b"220")
        self._command(b"HELO probe.example.net\r\n", b"250")

    def send(self, reverse_path: str, forward_path: str, content: bytes) -> None:
        """One message; returns after its 250. `content` has its dot."""
        self._command(b"MAIL FROM:<%s>\r\n" % reverse_path.encode(), b"250")
        self._command(b"RCPT TO:<%s>\r\n" % forward_path.encode(), b"250")
        self._command(b"DATA\r\n", b"354")
        self._command(content, b"250")

    def __enter__(self) -> SMTPClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._command(b"QUIT\r\n", b"221")
        finally:
            self._replies.close()
            self._socket.close()

    def _command(self, line: bytes, code: bytes) -> None:
        self._socket.sendall(line)
        self._expect(code)

    def _expect(self, code: bytes) -> None:
        line = self._replies.readline()
        while line[3:4] == b"-":
            line = self._replies.readline()
        if line[:3] != code:
            raise ValueError(f"the server said {line!r} instead of {code.decode()}")
