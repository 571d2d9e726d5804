"""One client connection with absolute deadlines, and the idle ones that are kept for the next batch."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

from mailserv.clock import Clock
from mailserv.deliver.mx import Target
from mailserv.errors import ProtocolError
from mailserv.mail.fields import printable
from mailserv.mail.reply import Reply
from mailserv.mail.smtp_reply import ReplyReader, ServerReply
from mailserv.mail.value import Value
from mailserv.protocol.smtp_client import Capabilities, Step
from mailserv.protocol.smtp_transaction import QUIT

READ_SIZE = 65_536  # octets asked for at once
IDLE_SECONDS = 30.0  # a connection waits that long for more mail; servers wait 5 m (RFC 5321 §4.5.3.2.7)
MAX_IDLE = 100  # idle connections in all, so that a burst to many domains gives its descriptors back


class Timeouts(Value, frozen=True):
    """Seconds for each `Step` of the client (RFC 5321 §4.5.3.2). Shorter ones at the end of data make duplicates.

    `block` is for each piece that is sent. `quit` is short: its reply changes nothing.
    """

    connect: float = 30.0
    greeting: float = 300.0
    ehlo: float = 300.0
    starttls: float = 120.0
    handshake: float = 60.0
    auth: float = 120.0
    rset: float = 300.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    dot: float = 600.0
    quit: float = 2.0

    def of(self, step: Step) -> float:
        seconds: float = getattr(self, step.name.lower())
        return seconds


class ClientConnection:
    """A connected socket, its reply reader and what is known of the server. One thread at a time.

    `send` and `read` raise OSError (TimeoutError at the deadline) and ProtocolError; then only `close` is of use, and
    `trouble` puts the error into words.
    """

    def __init__(self, sock: socket.socket, target: Target, clock: Clock, timeouts: Timeouts) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._reader = ReplyReader()
        self._clock = clock
        self._timeouts = timeouts
        self._step = Step.GREETING
        self.target = target
        self._opened_at = clock.monotonic()
        self.idle_since = self._opened_at
        self.capabilities = Capabilities()
        self.is_secure = False
        self._is_proven = False  # a reply has come over TLS
        self.was_idle = False
        self.carried = 0  # transactions
        self.needs_reset = False  # the last transaction was left open on the server's side

    @property
    def is_fresh(self) -> bool:
        """Nothing has been sent over it yet, so its end is the host's fault and not that of a limit or of old age."""
        return self.carried == 0 and not self.was_idle

    @property
    def age(self) -> float:
        """Seconds since it was opened."""
        return self._clock.monotonic() - self._opened_at

    @property
    def is_at_starttls(self) -> bool:
        """STARTTLS was said, and no reply has come over TLS: who refuses us in TLS 1.3, for want of a certificate, says so
        after our side of the handshake is done (RFC 8446 §4.4.2.4)."""
        return self._step in {Step.STARTTLS, Step.HANDSHAKE} or (self.is_secure and not self._is_proven)

    @property
    def has_unread(self) -> bool:
        """A reply has come, or the beginning of one, that nobody has waited for yet."""
        return not self._reader.is_empty

    def send(self, data: bytes, step: Step) -> None:
        """Send it all, within the timeout of one block. `step` is for `trouble`."""
        self._step = step
        self._sock.settimeout(self._timeouts.block)
        self._sock.sendall(data)

    def read(self, step: Step) -> ServerReply:
        """The next reply. The deadline is for the reply as a whole: a server that drips octets gains nothing."""
        self._step = step
        reply = self._reader.next()
        if reply is None:
            reply = self._wait_for(step)
        self._is_proven = self.is_secure
        return reply

    def _wait_for(self, step: Step) -> ServerReply:
        deadline = self._clock.monotonic() + self._timeouts.of(step)
        while True:
            wait = deadline - self._clock.monotonic()
            if wait <= 0:
                raise TimeoutError
            self._sock.settimeout(wait)
            data = self._sock.recv(READ_SIZE)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "closed")
            self._reader.feed(data)
            if (reply := self._reader.next()) is not None:
                return reply

    def read_early(self) -> ServerReply | None:
        """A reply that is here though nobody waits for one yet, None without; it never waits, and raises ProtocolError only."""
        self._sock.settimeout(0)
        try:
            while (reply := self._reader.next()) is None and (data := self._sock.recv(READ_SIZE)):
                self._reader.feed(data)
        except OSError:  # nothing has come, or the connection is gone: whoever sends next hears of that
            return None
        return reply

    def start_tls(self, context: ssl.SSLContext) -> None:
        """The handshake (RFC 3207 §4). Raises ProtocolError when there are unread bytes: somebody put them there."""
        self._step = Step.HANDSHAKE
        if self.has_unread:
            raise ProtocolError("replies came before the TLS handshake")
        self._sock.settimeout(self._timeouts.handshake)
        self._sock = context.wrap_socket(self._sock, server_hostname=self.target.host)
        self.is_secure = True

    def is_quiet(self) -> bool:
        """False when there is something to read, which on an idle connection is a farewell or the end."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not self.has_unread and not poll.poll(0)

    def quit(self, *, wait: bool = True) -> None:
        """QUIT and close; a lost reply means nothing (RFC 5321 §4.1.1.10)."""
        try:
            self.send(QUIT, Step.QUIT)
            if wait:
                self.read(Step.QUIT)
        except (OSError, ProtocolError):
            pass  # the mail is settled; the server may close how it likes
        finally:
            self.close()

    def close(self) -> None:
        """Close at once. Idempotent."""
        self._sock.close()

    def trouble(self, error: Exception) -> Reply:
        """What went wrong, as the reply that nobody sent."""
        return describe(error, self._step)


def describe(error: Exception, step: Step) -> Reply:
    """An error on the way to or with the next hop, as a temporary reply that holds nothing of our own insides."""
    if step is Step.CONNECT:
        text = "timed out" if isinstance(error, TimeoutError) else _words(error)
        return Reply(451, "4.4.1", f"No connection: {text}")
    match error:
        case ProtocolError():
            return Reply(451, "4.5.0", f"The server broke the protocol at {step.value}: {error}")
        case TimeoutError():
            return Reply(451, "4.4.2", f"No answer in time to {step.value}")
        case _ if step is Step.HANDSHAKE:
            return Reply(451, "4.7.5", f"The TLS handshake failed: {_words(error)}")
        case _:
            return Reply(451, "4.4.2", f"The connection was lost at {step.value}: {_words(error)}")


def _words(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError(verify_message=str(text)):
            return printable(text, 200)
        case ssl.SSLError():
            return printable((getattr(error, "reason", None) or "TLS error").lower().replace("_", " "), 200)
        case OSError() if error.errno:
            return os.strerror(error.errno)
        case _:
            return type(error).__name__


class IdleConnections:
    """Open sessions between two batches, by their way: the destination, and how one wanted to speak with it. Any thread.

    The last one in is the first one out. A timer runs only while something is idle, and says QUIT to what got too old.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        idle_seconds: float = IDLE_SECONDS,
        max_idle: int = MAX_IDLE,
        timer: Callable[[float, Callable[[], None]], threading.Timer] = threading.Timer,
    ) -> None:
        """`timer` is for tests: one that the system gives no thread for."""
        self._new_timer = timer
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._max_idle = max_idle
        self._lock = threading.Lock()
        self._idle: list[tuple[object, ClientConnection]] = []  # oldest first
        self._timer: threading.Timer | None = None
        self._closed = False

    def put(self, way: object, connection: ClientConnection) -> None:
        """Keep a healthy connection; when there are too many, or after `close`, one ends instead."""
        connection.idle_since = self._clock.monotonic()
        connection.was_idle = True
        with self._lock:
            self._idle.append((way, connection))
            surplus = self._idle if self._closed else self._idle[: -self._max_idle]
            self._idle = [] if self._closed else self._idle[-self._max_idle :]
            self._set_timer()
        for _, old in surplus:
            old.quit(wait=False)

    def get(self, way: object) -> ClientConnection | None:
        """A connection that is still good, taken out; those that turn out to be dead are closed on the way."""
        while (connection := self._pop(way)) is not None:
            if connection.is_quiet() and self._clock.monotonic() - connection.idle_since < self._idle_seconds:
                return connection
            connection.quit(wait=False)
        return None

    def expire(self) -> None:
        """End what has been idle for too long."""
        before = self._clock.monotonic() - self._idle_seconds
        with self._lock:
            self._timer = None
            old = [connection for _, connection in self._idle if connection.idle_since <= before]
            self._idle = [pair for pair in self._idle if pair[1].idle_since > before]
            self._set_timer()
        for connection in old:
            connection.quit(wait=False)

    def close(self) -> None:
        """End them all; what is put here later ends at once."""
        with self._lock:
            self._closed = True
            old, self._idle = self._idle, []
            if self._timer:
                self._timer.cancel()
                self._timer = None
        for _, connection in old:
            connection.quit(wait=False)

    def __len__(self) -> int:
        with self._lock:
            return len(self._idle)

    def _pop(self, way: object) -> ClientConnection | None:
        with self._lock:
            for index in range(len(self._idle) - 1, -1, -1):
                if self._idle[index][0] == way:
                    return self._idle.pop(index)[1]
        return None

    def _set_timer(self) -> None:
        """With the lock held. One timer at most; it may wake up early for nothing, and then sets itself anew. Where there is
        no thread for it, whoever puts the next connection here sets it: what was delivered must not fail for that."""
        if self._timer is None and self._idle and not self._closed:
            timer = self._new_timer(self._idle_seconds, self.expire)
            timer.daemon = True
            with suppress(RuntimeError):
                timer.start()
                self._timer = timer
