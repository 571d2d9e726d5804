"""The socket's side of a POP3 session: its deadlines."""

from __future__ import annotations

from mailserv.clock import Clock
from mailserv.net.connection import Connection

FAREWELL_TIME = 5.0  # seconds to get a last answer out


class SlowReader(OSError):
    """The client takes nothing any more; an answer may be cut anywhere."""


class Wire:
    """Reads and writes of one connection. One thread. `octets`: how many were sent."""

    def __init__(self, connection: Connection, clock: Clock, timeout: float) -> None:
        """`timeout`: seconds to wait for a whole command, and for the client to take a write (RFC 1939 §3)."""
        self._connection = connection
        self._clock = clock
        self._timeout = timeout
        self._command_ends = 0.0
        self.octets = 0

    def read(self) -> bytes:
        """Wait for a command; b"" when there is none to come. Raises TimeoutError: one deadline for all of a command, so
        that a client that drips octets gains nothing."""
        now = self._clock.monotonic()
        if not self._command_ends:
            self._command_ends = now + self._timeout
        return self._connection.receive(self._command_ends - now)

    def send(self, data: bytes) -> None:
        """Send an answer; the wait for the next command starts anew. Raises OSError, SlowReader."""
        if not data:
            return
        self._command_ends = 0.0
        self.octets += len(data)
        try:
            self._connection.send(data, self._timeout)
        except TimeoutError as error:
            raise SlowReader from error

    def last_words(self, data: bytes) -> None:
        """Try to send this; nobody may be listening."""
        try:
            self._connection.send(data, FAREWELL_TIME)
        except OSError:
            return
