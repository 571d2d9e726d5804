"""One TCP connection, plain or TLS, on which nobody waits for longer than was said. One thread owns it (invariant 11)."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from math import inf

from mailserv.clock import Clock
from mailserv.mail.peer import TLSInfo

COMMAND_READ = 4096  # octets asked for while waiting for commands: an idle session should hold little memory
CONTENT_READ = 256 * 1024  # octets asked for while content flows
SLACK = 0.5  # seconds by which the kernel's timeout of a plain socket may be late
_MORE_COMES = getattr(socket, "MSG_MORE", 0)  # Linux's: the end of the connection, in the same packet
_LONGEST = 120.0  # seconds that the kernel waits at once: for a command as for content, so that it is told once
UNREAD_READS = 16  # reads of what a client still sends while its session is being closed


class Connection:
    """Reads and writes. `wait`: seconds, for all of the call.

    A plain socket stays blocking and lets the kernel time out (SO_RCVTIMEO): one system call and one hand-over of the
    interpreter lock for each read, where `settimeout` takes two. The option is set anew only when it would end too late;
    when it ends too early the read is begun again.
    A TLS socket uses `settimeout`, because one SSL_read may read the socket many times and only Python's deadline is absolute.
    """

    def __init__(self, sock: socket.socket, clock: Clock) -> None:
        self._sock = sock
        self._clock = clock
        self._tls = False
        self._receive_timeout = -1.0  # none is set: differs from every wait
        self._send_timeout = inf  # none, either
        self._said_last = False
        self._closing = (
            threading.Lock()
        )  # so that `interrupt` never meets a file descriptor that is somebody else's by now

    def receive(self, wait: float, size: int = COMMAND_READ) -> bytes:
        """Up to `size` octets; b"" when the peer has closed or reset the connection. Raises TimeoutError when none came."""
        while wait > 0:
            try:
                if self._tls:
                    self._sock.settimeout(wait)
                elif not 0 < self._receive_timeout < wait + SLACK:
                    self._receive_timeout = min(wait, _LONGEST)
                    self._set_timeout(socket.SO_RCVTIMEO, self._receive_timeout)
                return self._sock.recv(size)
            except (BlockingIOError, ssl.SSLWantReadError) as error:
                if self._tls or self._receive_timeout > wait - SLACK:
                    raise TimeoutError from error
                wait -= self._receive_timeout
            except TimeoutError:
                raise
            except OSError:  # reset, shut down, a broken TLS record: for the reader they all mean the end
                return b""
        raise TimeoutError

    def send(self, data: bytes, wait: float, *, is_last: bool = False) -> None:
        """Send it all. Raises TimeoutError when it was not taken in time, and OSError when the peer is gone.

        `is_last`: `say_no_more` or `close` follows at once, and these octets leave with it: one packet less for both sides.

        Not by `sendall`: that waits anew after each piece, so that a peer who takes an octet now and then never meets an end.
        """
        ends = self._clock.monotonic() + wait
        flags = 0
        if is_last and not self._tls:
            self._said_last, flags = True, _MORE_COMES
        try:
            sent = self._sock.send(data, flags) if wait == self._send_timeout else self._send(data, wait, flags)
            while sent < len(data):
                sent += self._send(memoryview(data)[sent:], ends - self._clock.monotonic(), flags)
        except (BlockingIOError, ssl.SSLWantWriteError) as error:
            raise TimeoutError from error

    def _send(self, data: bytes | memoryview, wait: float, flags: int) -> int:
        if wait <= 0:
            raise TimeoutError
        if self._tls:
            self._sock.settimeout(wait)
        elif abs(wait - self._send_timeout) > SLACK:
            self._send_timeout = wait
            self._set_timeout(socket.SO_SNDTIMEO, wait)
        return self._sock.send(data, flags)

    def start_tls(self, context: ssl.SSLContext, wait: float) -> TLSInfo:
        """Handshake as the server. Raises OSError (ssl.SSLError, TimeoutError) when it fails; then only `close` is left."""
        if wait <= 0:
            raise TimeoutError
        self._sock.settimeout(wait)
        wrapped = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        self._sock = wrapped  # before the handshake: `interrupt` must find the socket that is in use
        self._tls = True
        self._send_timeout = inf  # the kernel's is of no use any more
        wrapped.do_handshake()
        cipher = wrapped.cipher()
        return TLSInfo(wrapped.version() or "TLS", cipher[0] if cipher else "unknown")

    def local_ip(self) -> str:
        """The address of ours that the client connected to, "" when the connection is gone."""
        try:
            return str(self._sock.getsockname()[0]).removeprefix("::ffff:")
        except OSError:
            return ""

    def interrupt(self) -> None:
        """Make a `receive` that waits return b"". This and `abort` are the methods that another thread may call."""
        self._shutdown(socket.SHUT_RD)

    def abort(self) -> None:
        """Make every read and write fail at once. Any thread."""
        self._shutdown(socket.SHUT_RDWR)

    def say_no_more(self) -> None:
        """End our direction and take what the client has sent meanwhile, without waiting, before a `close`.

        Closing with input unread resets the connection, and a reset may take our last reply with it.
        """
        self._end_tls()
        self._shutdown(socket.SHUT_WR)
        try:
            self._sock.setblocking(False)  # MSG_DONTWAIT would not do: Python waits by itself where a timeout is set
            for _ in range(UNREAD_READS):
                # socket.socket: under TLS too these are only bytes to be thrown away
                if not socket.socket.recv(self._sock, CONTENT_READ):
                    return
        except OSError:
            return  # nothing more is there, or nobody

    def close(self) -> None:
        """Close without waiting. Idempotent; the owner's thread."""
        self._end_tls()
        if self._said_last:
            self._shutdown(socket.SHUT_WR)  # a close with input unread would throw away what has not left yet
        with self._closing:
            self._sock.close()

    def _end_tls(self) -> None:
        """Tell a peer under TLS that nobody cut us short (close_notify, RFC 8446 §6.1), if that can be sent at once."""
        if isinstance(self._sock, ssl.SSLSocket):
            try:
                self._sock.setblocking(False)
                self._sock.unwrap()
            except (OSError, ValueError):
                return  # said already, not to be said any more, or said: this is how waiting for the peer's is refused

    def _shutdown(self, how: int) -> None:
        """The unbound method: SSLSocket.shutdown would take the TLS layer away under the reader."""
        with self._closing:
            try:
                socket.socket.shutdown(self._sock, how)
            except OSError:
                return  # already closed: nobody waits

    def _set_timeout(self, option: int, seconds: float) -> None:
        whole = int(seconds)
        micro = max(int((seconds - whole) * 1_000_000), 1)
        self._sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, micro))
