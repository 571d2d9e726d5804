"""The listening socket: a ThreadingTCPServer that hands each connection to a thread that waits for one."""

from __future__ import annotations

import errno
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Any

from mailserv import metrics
from mailserv.clock import Clock
from mailserv.errors import ConfigError
from mailserv.logging import get_logger
from mailserv.mail.reply import Reply
from mailserv.net.connection import LONGEST, Connection, set_patience
from mailserv.net.gate import Gate, Place
from mailserv.net.threads import SessionThreads

_log = get_logger("listener")

Serve = Callable[[Connection, tuple[str, int], Place], None]
BACKLOG = 1024  # connections the kernel keeps for us; /proc/sys/net/core/somaxconn caps it
OUT_OF_FILES_PAUSE = 0.2  # seconds to wait when accept() fails for want of file descriptors


def listening_socket(service: str, address: tuple[str, int]) -> socket.socket:
    """Bound, and listening. What it is set to, accepted sockets inherit: small replies leave at once, no wait is endless.
    Raises ConfigError."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        set_patience(sock, socket.SO_RCVTIMEO, LONGEST)
        set_patience(sock, socket.SO_SNDTIMEO, LONGEST)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        host = f"[{address[0]}]" if family == socket.AF_INET6 else address[0]
        raise ConfigError([f"cannot listen on {host}:{address[1]} for {service}: {error.strerror}"]) from error
    return sock


class Listener(socketserver.ThreadingTCPServer):
    """Accepts on one socket. `serve(connection, address, place)` runs on a session thread and owns the connection: it
    closes it and gives up the place, unless it has lost them to another thread, which does so.

    `refuse(reply)` gives the bytes for a client that gets no session (SMTP and POP3 say it differently); they are sent
    from the accepting thread without waiting, so that refusing costs no thread.
    """

    def __init__(
        self,
        service: str,
        listening: socket.socket,
        *,
        serve: Serve,
        refuse: Callable[[Reply], bytes],
        gate: Gate,
        threads: SessionThreads,
        clock: Clock,
    ) -> None:
        self.service = service
        self._serve = serve
        self._refuse = refuse
        self._gate = gate
        gate.services.add(service)
        self._session_threads = threads  # not "_threads": ThreadingMixIn has an attribute of that name, and joins it
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, name=service, daemon=True)
        # Not TCPServer's own: it would make another socket.
        socketserver.BaseServer.__init__(self, listening.getsockname(), socketserver.BaseRequestHandler)
        self.socket = listening
        self.address_family = listening.family

    @property
    def bound(self) -> tuple[str, int]:
        """Host and port in use, the port as the system chose it."""
        name = self.socket.getsockname()
        return name[0], name[1]

    def start(self) -> None:
        """Accept from now on, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no more and close the socket; sessions go on. Waits for the accepting thread."""
        self._stopping.set()
        try:
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes accept() on Linux
        except OSError as error:
            _log.debug("listener_shutdown", service=self.service, error=str(error))
        if self._thread.is_alive():
            self._thread.join()
        self.server_close()

    def serve_forever(self, poll_interval: float = 0.0) -> None:
        """Blocking accept: the inherited loop would wake twice a second for nothing."""
        del poll_interval
        while not self._stopping.is_set():
            try:
                request, address = self.get_request()
            except BlockingIOError:  # nobody has come for so long
                continue
            except OSError as error:
                if self._stopping.is_set() or error.errno == errno.EINVAL:  # another process has shut it for us all
                    return
                _log.warning("accept_failed", service=self.service, error=str(error))
                self._stopping.wait(OUT_OF_FILES_PAUSE)
                continue
            self.process_request(request, address)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a place and a thread, or a 421 without one."""
        ip = client_address[0].removeprefix("::ffff:")
        connection = Connection(request, self._clock, LONGEST)
        place = self._gate.enter(ip, connection, self.service)
        if isinstance(place, Reply):
            self._turn_away(request, ip, place)
            return
        try:
            self._session_threads.run(lambda: self._run(connection, (ip, client_address[1]), place))
        except RuntimeError as error:
            self._gate.leave(place)
            self._turn_away(request, ip, Reply(421, "4.3.2", "No resources for a session; try again later"), str(error))

    def _run(self, connection: Connection, address: tuple[str, int], place: Place) -> None:
        try:
            self._serve(connection, address, place)
        except BaseException:  # a fault of ours; whoever loses a session to another thread returns
            connection.close()
            place.vacate()
            raise

    def _turn_away(self, request: socket.socket, ip: str, reply: Reply, error: str = "") -> None:
        _log.warning("session_refused", service=self.service, ip=ip, reply=str(reply), error=error)
        metrics.SESSIONS_REFUSED.labels(self.service, reply.enhanced).inc()
        try:
            request.setblocking(False)
            request.send(self._refuse(reply))
        except OSError:
            return  # the client is gone, or reads nothing: it is closed either way
        finally:
            request.close()
