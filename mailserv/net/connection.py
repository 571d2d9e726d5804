"""One TCP connection, plain or TLS, on which nobody waits for longer than was said. One thread owns it (invariant 11)."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from math import inf

from mailserv.clock import Clock
from mailserv.mail.peer import TLSInfo

IDLE_READ = 479  # octets asked for while waiting for a command: with Python's own 33 the most that needs no block
COMMAND_READ = 4096  # octets asked for while commands flow
CONTENT_READ = 256 * 1024  # octets asked for while content flows
SLACK = 0.5  # seconds by which the kernel's timeout of a plain socket may be late
_MORE_COMES = getattr(socket, "MSG_MORE", 0)  # Linux's: the end of the connection, in the same packet
LONGEST = 120.0  # seconds that the kernel waits at once: what a listening socket tells it once, for all it accepts
UNREAD_READS = 16  # reads of what a client still sends while its session is being closed


def set_patience(sock: socket.socket, option: int, seconds: float) -> None:
    """Let the kernel wait no longer with this socket. `option`: SO_RCVTIMEO or SO_SNDTIMEO. Accepted sockets inherit it."""
    whole = int(seconds)
    micro = max(int((seconds - whole) * 1_000_000), 1)
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, micro))


class Connection:
    """Reads and writes. `wait`: seconds, for all of the call.

    A plain socket stays blocking and lets the kernel time out (SO_RCVTIMEO, SO_SNDTIMEO): one system call and one
    hand-over of the interpreter lock for each read, where `settimeout` takes two. An option is set anew only when it
    would end too late; when it ends too early the call is begun again.
    A TLS socket uses `settimeout`, because one SSL_read may read the socket many times and only Python's deadline is absolute.
    """

    def __init__(self, sock: socket.socket, clock: Clock, patience: float = inf) -> None:
        """`patience`: how long the kernel waits with this socket as it is (`set_patience`)."""
        self._sock = sock
        self._clock = clock
        self._tls = False
        self._receive_timeout = patience
        self._send_timeout = patience
        self._command_read = IDLE_READ
        self._said_last = False
        self._closing = (
            threading.Lock()
        )  # so that `interrupt` never meets a file descriptor that is somebody else's by now

    def receive(self, wait: float, size: int = 0) -> bytes:
        """Up to `size` octets; b"" when the peer has closed or reset the connection. Raises TimeoutError when none came.

        `size` 0: for commands. Few, since the memory for them is held while nobody says anything; more after these were
        not all.
        """
        octets = size or self._command_read
        while wait > 0:
            try:
                if self._tls:
                    self._sock.settimeout(wait)
                elif self._receive_timeout > wait + SLACK:
                    self._receive_timeout = min(wait, LONGEST)
                    set_patience(self._sock, socket.SO_RCVTIMEO, self._receive_timeout)
                data = self._sock.recv(octets)
                if not size:
                    self._command_read = COMMAND_READ if len(data) == octets else IDLE_READ
                return data
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
        if self._tls:
            self._send_tls(data, wait)
            return
        flags = 0
        if is_last:
            self._said_last, flags = True, _MORE_COMES
        left: bytes | memoryview = data
        while wait > 0:
            if self._send_timeout > wait + SLACK:
                self._send_timeout = min(wait, LONGEST)
                set_patience(self._sock, socket.SO_SNDTIMEO, self._send_timeout)
            try:
                sent = self._sock.send(left, flags)
            except BlockingIOError:
                sent = 0
            if sent == len(left):
                return
            if self._send_timeout > wait - SLACK:
                break
            left = memoryview(left)[sent:]
            wait -= self._send_timeout  # the kernel gives back what it could not send when that is over
        raise TimeoutError

    def _send_tls(self, data: bytes, wait: float) -> None:
        ends = self._clock.monotonic() + wait
        left = memoryview(data)
        while left:
            wait = ends - self._clock.monotonic()
            if wait <= 0:
                raise TimeoutError
            self._sock.settimeout(wait)
            try:
                left = left[self._sock.send(left) :]
            except (BlockingIOError, ssl.SSLWantWriteError) as error:
                raise TimeoutError from error

    def start_tls(self, context: ssl.SSLContext, wait: float) -> TLSInfo:
        """Handshake as the server. Raises OSError (ssl.SSLError, TimeoutError) when it fails; then only `close` is left."""
        if wait <= 0:
            raise TimeoutError
        self._sock.settimeout(wait)
        wrapped = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        self._sock = wrapped  # before the handshake: `interrupt` must find the socket that is in use
        self._tls = True
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
