"""The server's certificate, reread when its files change."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

from mailserv.logging import get_logger

_log = get_logger("tls")
PLUGIN = "plugin"  # all services of plugins
SERVICES = ("smtp", "submission", "submissions", "lmtp", "pop3", "pop3s", PLUGIN)  # what TLS may be spoken on


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS ≥ 1.2 and no session tickets: a ticket of one service must be worth nothing on another (docs/lessons.md 8).

    Raises OSError or ssl.SSLError when the files can't be read, are no PEM, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    # A reader that another thread has woken sees an end without close_notify and must still be able to say goodbye.
    # Nobody can cut a message short so: it ends with its dot, a POP3 session with QUIT.
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    context.load_cert_chain(certificate, key, password=_no_password)
    return context


def _no_password() -> str:
    """OpenSSL would ask the terminal for a key's passphrase, and every handshake would wait for the answer."""
    return ""


class Certificates:
    """Gives the context for the next handshake. Any thread. A pair of files that can't be used leaves the old one in place.

    Each service has a context of its own: OpenSSL keeps TLS 1.2 sessions in the context and lets a client take them up
    again by their id, also where there are no tickets, so one context for all would let a session cross to another service.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._lock = threading.Lock()
        self._seen = self._look()
        self._contexts = self._make()

    def context(self, service: str) -> ssl.SSLContext:
        """The service's context of the files as they are now (a stat of each), or the last good one."""
        with self._lock:
            now = self._look()
            if now != self._seen:
                self._seen = now
                try:
                    self._contexts = self._make()
                    _log.info("certificate_reread", file=str(self._files[0]))
                except OSError as error:
                    _log.warning("certificate_unusable", file=str(self._files[0]), error=str(error))
            return self._contexts[service]

    def _make(self) -> dict[str, ssl.SSLContext]:
        return {service: server_context(*self._files) for service in SERVICES}

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        found = []
        for path in self._files:
            try:
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
            except OSError:
                found.append((0, 0, 0))
        return tuple(found)
