"""POP3 clients, many at once on one thread, fast enough that what is measured is the server (RFC 1939, RFC 2449 §6.6)."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence

from bench.errors import Failed
from bench.server import SECRET
from bench.waiting import START_SECONDS

BLOCK = 1 << 16
END = b"\r\n.\r\n"
BATCH = 500  # commands that a pipelining client sends before it waits for replies
FETCH_SECONDS = 300.0
SPACE = bytearray(BLOCK)
"""Where blocks are read to: a new one for each would cost more than reading."""


class POP3Client:
    """A session. Failed when a reply is not +OK. One thread."""

    def __init__(self, port: int, user: str) -> None:
        self._user = user
        self.socket = socket.create_connection(("127.0.0.1", port), START_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._line()

    def login(self) -> None:
        self.command(f"USER {self._user}")
        self.command(f"PASS {SECRET}")

    def stat(self) -> tuple[int, int]:
        """Messages and octets."""
        _, messages, octets = self.command("STAT").split()[:3]
        return int(messages), int(octets)

    def uidl(self) -> int:
        """How many unique-ids the list has."""
        self.socket.sendall(b"UIDL\r\n")
        listed = bytearray()
        while not listed.endswith(END):
            listed += self._block()
        return listed.count(b"\r\n") - 2

    def delete(self, messages: int) -> None:
        """DELE of the first so many, BATCH commands at a time."""
        for first in range(1, messages + 1, BATCH):
            last = min(first + BATCH, messages + 1)
            self.socket.sendall(b"".join(b"DELE %d\r\n" % number for number in range(first, last)))
            replies = bytearray()
            while replies.count(b"\r\n") < last - first:
                replies += self._block()
            if replies.count(b"+OK") < last - first:
                raise Failed(f"POP3: a DELE was refused: {bytes(replies[-100:])!r}")

    def quit(self) -> None:
        try:
            self.command("QUIT")
        finally:
            self.socket.close()

    def command(self, line: str) -> str:
        self.socket.sendall(line.encode() + b"\r\n")
        return self._line()

    def _line(self) -> str:
        """A reply of one line: there is never a second one on the way."""
        reply = b""
        while not reply.endswith(b"\r\n"):
            reply += self._block()
        if not reply.startswith(b"+OK"):
            raise Failed(f"POP3: {reply!r}")
        return reply.decode()

    def _block(self) -> bytes:
        block = self.socket.recv(BLOCK)
        if not block:
            raise Failed("POP3: the server has closed")
        return block


class Retrieval:
    """All messages of one session by RETR, one after another or many commands at once. Counts and adds up what comes."""

    def __init__(self, client: POP3Client, messages: int, *, pipelined: bool) -> None:
        self.client = client
        self._messages = messages
        self._batch = BATCH if pipelined else 1
        self._asked = 0
        self.got = 0
        self.octets = 0
        """Of the contents. What is measured has no line that begins with a dot."""
        self._rest = bytearray()

    @property
    def done(self) -> bool:
        return self.got == self._messages

    def ask(self) -> None:
        """The next commands."""
        first, self._asked = self._asked + 1, min(self._asked + self._batch, self._messages)
        self.client.socket.sendall(b"".join(b"RETR %d\r\n" % number for number in range(first, self._asked + 1)))

    def take(self) -> None:
        """What has come. When all that was asked for is there, ask on."""
        size = self.client.socket.recv_into(SPACE)
        if not size:
            raise Failed("POP3: the server has closed")
        *whole, self._rest = (self._rest + SPACE[:size]).split(END)
        for reply in whole:
            if not reply.startswith(b"+OK"):
                raise Failed(f"POP3: a reply that is not +OK: {reply[:100]!r}")
            line = reply.find(b"\r\n")
            self.octets += len(reply) - line if line >= 0 else 0  # the line's CRLF for the one that END took
        self.got += len(whole)
        if self.got == self._asked and not self.done:
            self.ask()


def retrieve(sessions: Sequence[tuple[POP3Client, int]], *, pipelined: bool) -> tuple[float, int]:
    """RETR of so many messages in each session, all sessions at once: seconds, and octets of content."""
    waiting = selectors.DefaultSelector()
    started = time.monotonic()
    running = [Retrieval(client, messages, pipelined=pipelined) for client, messages in sessions]
    for each in running:
        waiting.register(each.client.socket, selectors.EVENT_READ, each)
        each.ask()
    left = len(running)
    with waiting:
        while left:
            ready = waiting.select(FETCH_SECONDS)
            if not ready or time.monotonic() - started > FETCH_SECONDS:
                raise Failed(f"RETR: not all within {FETCH_SECONDS:.0f} s")
            for key, _ in ready:
                key.data.take()
                if key.data.done:
                    waiting.unregister(key.fileobj)
                    left -= 1
    return time.monotonic() - started, sum(each.octets for each in running)
