"""A POP3 server on a free loopback port over a real store, and a client that sends and reads bytes."""

from __future__ import annotations

import functools
import poplib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trustme

from mailserv.clock import Clock, SystemClock
from mailserv.filter.limits import LoginThrottle
from mailserv.filter.logins import Logins
from mailserv.filter.passwords import Passwords
from mailserv.mail.address import Address
from mailserv.mail.message import Acceptance, BytesContent, Content, MailboxDelivery
from mailserv.mail.peer import Peer
from mailserv.net.connection import Connection
from mailserv.net.gate import Gate, GateLimits, Place
from mailserv.net.listener import Listener, listening_socket
from mailserv.net.threads import SessionThreads
from mailserv.net.tls import Certificates
from mailserv.pop3.context import OpenMaildrops, Pop3Context
from mailserv.pop3.session import Pop3Session, refusal
from mailserv.protocol.pop3_extensions import NO_EXTENSIONS, Pop3ExtensionTable
from mailserv.settings import Duration, Limits, Settings
from mailserv.store.interface import Store
from mailserv.store.listing import MaildropMessage
from mailserv.store.passwords import hash_password
from mailserv.store.sqlite import open_store

ALICE = "alice@example.org"
PASSWORD = "correct horse"
WAIT = 10.0  # seconds that a test waits for the server before it fails


@functools.cache
def password_hash() -> str:
    """One is enough: it takes 20 ms."""
    return hash_password(PASSWORD)


@functools.cache
def authority() -> trustme.CA:
    """Who signs the server's certificate."""
    return trustme.CA()


def certificates(path: Path) -> Certificates:
    certificate = authority().issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(path / "cert.pem")
    certificate.private_key_pem.write_to_path(path / "key.pem")
    return Certificates(path / "cert.pem", path / "key.pem")


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


class Doctored:
    """A store some of whose methods a test replaces."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.replaced: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return self.replaced.get(name) or getattr(self._store, name)


class Pop3:
    """The server. `sessions_over`: released once for each session that has ended."""

    def __init__(
        self,
        path: Path,
        *,
        service: str = "pop3",
        tls: bool = False,
        plaintext: bool = True,
        extensions: Pop3ExtensionTable = NO_EXTENSIONS,
        **limits: Any,
    ):
        self.clock: Clock = SystemClock()
        self.real_store = open_store(path / "data", self.clock)
        self.real_store.add_account(ALICE, password_hash(), self.clock.now())
        self.store = Doctored(self.real_store)
        limits.setdefault("pop3_timeout", Duration(WAIT))
        self.settings = Settings(hostname="mail.example.org", limits=Limits(**limits))
        self.throttle = LoginThrottle(
            self.settings.limits.failed_logins_per_minute, self.settings.limits.failed_logins_per_day, self.clock
        )
        self.context = Pop3Context(
            settings=self.settings,
            clock=self.clock,
            store=self.store,  # type: ignore[arg-type]
            logins=Logins(self.store, self.throttle, Passwords(self.clock, b"key", 0)),  # type: ignore[arg-type]
            maildrops=OpenMaildrops(),
            certificates=certificates(path) if tls else None,
            allows_plaintext=lambda _: plaintext,
            extensions=extensions,
        )
        self.clients: list[poplib.POP3] = []
        self.sessions_over = threading.Semaphore(0)
        self.gate = Gate(GateLimits(sessions=20, per_ip=0), self.clock)
        self.threads = SessionThreads("pop3")
        self.listener = Listener(
            service,
            listening_socket(service, ("127.0.0.1", 0)),
            serve=self._serve,
            refuse=refusal,
            gate=self.gate,
            threads=self.threads,
            clock=self.clock,
        )
        self.port = self.listener.bound[1]
        self.listener.start()

    def _serve(self, connection: Connection, address: tuple[str, int], place: Place) -> None:
        peer = Peer(address[0], address[1], self.listener.service, "S1")
        try:
            assert not list(Pop3Session(self.context, connection, peer, place).run())  # nobody is asked
        finally:
            self.sessions_over.release()

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.listener.stop()
        self.gate.abort()
        assert self.threads.close(WAIT)
        self.real_store.close()

    def deliver(self, queue_id: str, content: bytes | Content, **parameters: str) -> None:
        """Into alice's mailbox. `parameters`: those of MAIL."""
        mailbox = MailboxDelivery(ALICE, ALICE, b"Return-Path: <bob@example.net>\r\n")
        body = BytesContent(content) if isinstance(content, bytes) else content
        reverse_path = Address("bob", "example.net")
        self.real_store.accept(
            Acceptance(queue_id, reverse_path, body, self.clock.now(), parameters, mailboxes=(mailbox,))
        )

    def mailbox(self) -> list[MaildropMessage]:
        return self.real_store.maildrop(ALICE)

    def poplib(self) -> poplib.POP3:
        """A client that has logged in. Closed at the latest with the server."""
        client = poplib.POP3("127.0.0.1", self.port, timeout=WAIT)
        self.clients.append(client)
        client.user(ALICE)
        client.pass_(PASSWORD)
        return client

    def wire(self) -> Wire:
        return Wire(self.port)


class Wire:
    """A client of bytes. Reads the greeting when it is made."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), WAIT)
        self.file = self.socket.makefile("rb")
        self.greeting = self.line()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        return self.file.readline()

    def ask(self, command: bytes) -> bytes:
        self.send(command + b"\r\n")
        return self.line()

    def lines(self) -> list[bytes]:
        """A multi-line answer's lines after the first, without the dot."""
        found = []
        while (line := self.line()) != b".\r\n":
            assert line, "the connection ended within an answer"
            found.append(line)
        return found

    def log_in(self) -> Wire:
        self.ask(f"USER {ALICE}".encode())
        assert self.ask(f"PASS {PASSWORD}".encode()).startswith(b"+OK")
        return self

    def start_tls(self) -> None:
        assert self.ask(b"STLS").startswith(b"+OK")
        self.wrap()

    def wrap(self) -> None:
        self.file.close()
        self.socket = client_context().wrap_socket(self.socket, server_hostname="localhost")
        self.file = self.socket.makefile("rb")

    def rest(self) -> bytes:
        return self.file.read()

    def close(self) -> None:
        self.file.close()
        self.socket.close()
